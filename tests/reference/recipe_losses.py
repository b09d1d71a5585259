"""What the steps of shipped recipes minimise, written from their formulas: objectives of the reference loop.

Shapes as in `opd_loop`. The loop takes the mean over valid rows, so what counts otherwise is scaled to that here.
Log-probabilities are over the whole vocabulary. Nothing here reads the maths that is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel as Model

from examples.tiny.decode import text_of
from tests.reference.chunk_loop import words_of
from tests.reference.opd_loop import Objective, Prompts, Rollouts, Settings, generate, score

Divergence = Callable[[Tensor, Tensor], Tensor]  # student, teacher [..., buckets] -> [...]
Reward = Callable[[Rollouts], Tensor]  # [B]
Advantage = Callable[[Rollouts, int], Tensor]  # and the samples of a prompt -> [B, 1] or [B, R]

# ---------------------------------------------------------------- of one row


def kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(one || other) over buckets; one that `one` gives nothing adds nothing."""
    there = one > -torch.inf
    return (one.exp() * (one.where(there, 0.0) - other.where(there, 0.0))).sum(-1)


def reverse(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, teacher)


def forward(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(teacher, student)


def jsd(student: Tensor, teacher: Tensor) -> Tensor:
    middle = torch.logaddexp(student, teacher) - math.log(2)
    return (kl(student, middle) + kl(teacher, middle)) / 2


def skewed(student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student, torch.logaddexp(student + math.log(0.1), teacher + math.log(0.9)))


def buckets(student: Tensor, teacher: Tensor, *lists: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides on these tokens, everywhere else at -inf, and on all other tokens as one."""
    members = torch.zeros_like(teacher, dtype=torch.bool).scatter(-1, torch.cat(lists, -1), value=True)
    inside = [side.masked_fill(~members, -torch.inf) for side in (student, teacher)]
    tails = [side.masked_fill(members, -torch.inf).logsumexp(-1, keepdim=True) for side in (student, teacher)]
    first, second = (torch.cat([one, tail], -1) for one, tail in zip(inside, tails, strict=True))
    return first, second


def on_support(divergence: Divergence, teacher_top: int = 8, *, student_top: bool = True, sampled: bool = True) -> Objective:
    """The divergence on the teacher's likeliest tokens, the student's when it drew, and the drawn one."""

    def objective(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        lists = [teacher.topk(teacher_top).indices]
        lists += [rollouts.top_ids_BRk] if student_top else []
        lists += [rollouts.response_BR[..., None]] if sampled else []
        return divergence(*buckets(student, teacher, *lists))

    return objective


def of_every_token(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    return kl(student, teacher)


def drawn(log_probs: Tensor, rollouts: Rollouts) -> Tensor:
    """Log-probabilities of the drawn tokens, [B, R]."""
    return log_probs.gather(-1, rollouts.response_BR[..., None])[..., 0]


def log_likelihood(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    return -drawn(student, rollouts)


def entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(-1).detach()


def k1(student: Tensor, teacher: Tensor, rollouts: Rollouts) -> Tensor:
    """log teacher - log student of the drawn tokens, a number."""
    return (drawn(teacher, rollouts) - drawn(student, rollouts)).detach()


def by_draw(advantage: Tensor, student: Tensor, rollouts: Rollouts) -> Tensor:
    return -advantage.detach() * drawn(student, rollouts)


# ---------------------------------------------------------------- policy gradients


def with_baseline(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """vopd: k1 plus the reverse KL on the lists without the drawn token."""
    value = on_support(reverse, sampled=False)(student, teacher, rollouts, settings)
    return by_draw(k1(student, teacher, rollouts) + value, student, rollouts)


def clipped(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """lightning."""
    return by_draw(k1(student, teacher, rollouts).clamp(-5, 5), student, rollouts)


def beyond(base: Model) -> Objective:
    """exopd: towards teacher^1.25 / base^0.25."""

    def objective(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        away = k1(student, score(base, rollouts), rollouts)
        return by_draw(1.25 * k1(student, teacher, rollouts) - 0.25 * away, student, rollouts)

    return objective


def with_later_rows(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """minillm: the row's reverse KL, and the mean k1 of the rows behind it by policy gradient."""
    valid = rollouts.valid_BR
    now = k1(student, teacher, rollouts) * valid
    behind = now.flip(1).cumsum(1).flip(1) - now
    left = valid.flip(1).cumsum(1).flip(1) - 1
    later = behind / left.clamp_min(1)
    return on_support(reverse)(student, teacher, rollouts, settings) + by_draw(later, student, rollouts)


def covering_where_undecided(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """eopd: k1, and forward KL on the teacher's top 16 where its entropy is at least 0.8."""
    cover = on_support(forward, 16, student_top=False, sampled=False)(student, teacher, rollouts, settings)
    return by_draw(k1(student, teacher, rollouts), student, rollouts) + cover * (entropy(teacher) >= 0.8)


def of_the_prefix(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """prefix-opd: k1 on the first 16 rows, which alone count."""
    counted = rollouts.valid_BR.clone()
    counted[:, 16:] = False
    loss = by_draw(k1(student, teacher, rollouts), student, rollouts)
    return loss * counted * rollouts.valid_BR.sum() / counted.sum()


# ---------------------------------------------------------------- weights


def half_that_matters(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """tip: reverse KL on the half of each response where the student is undecided or far away; all rows count."""
    loss = on_support(reverse)(student, teacher, rollouts, settings)
    undecided, far = entropy(student), loss.detach()
    weight = torch.zeros_like(loss)
    for row, valid in enumerate(rollouts.valid_BR):
        h, d = (side[row, valid] / side[row, valid].max() for side in (undecided, far))
        kept = (h + d - h * d).argsort(descending=True, stable=True)[: max(1, round(0.5 * len(h)))]
        weight[row, kept] = 1.0
    return loss * weight


def where_sure(second: Model) -> Objective:
    """confidence-router: reverse KL from each of two teachers where its entropy is at most 0.5."""

    def objective(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        sides = (teacher, score(second, rollouts).detach())
        losses = [on_support(reverse)(student, side, rollouts, settings) * (entropy(side) <= 0.5) for side in sides]
        return losses[0] + losses[1]

    return objective


def each_sequence_alike(objective: Objective) -> Objective:
    """The mean over sequences of the mean over their rows."""

    def scaled(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        rows = rollouts.valid_BR.sum(1, keepdim=True)
        return objective(student, teacher, rollouts, settings) * rows.sum() / (len(rows) * rows)

    return scaled


# ---------------------------------------------------------------- rewards


def ends_with(answers: Sequence[str]) -> Reward:
    """1 where the last word of the response is the answer of its prompt."""

    def reward(rollouts: Rollouts) -> Tensor:
        pairs = zip(texts(rollouts), prompts_of(rollouts), strict=True)
        return torch.tensor([text.split()[-1:] == [answers[at]] for text, at in pairs], dtype=torch.float64)

    return reward


def steps_in_place(worked: Sequence[str]) -> Reward:
    """0 to 10: how many words the response and the worked answer have in the same place, of those of the longer one."""

    def grade(text: str, right: str) -> int:
        ours, theirs = text.split(), right.split()
        same = sum(a == b for a, b in zip(ours, theirs, strict=False))
        return round(10 * same / max(len(ours), len(theirs)))

    def reward(rollouts: Rollouts) -> Tensor:
        pairs = zip(texts(rollouts), prompts_of(rollouts), strict=True)
        return torch.tensor([grade(text, worked[at]) for text, at in pairs], dtype=torch.float64)

    return reward


MOST_STEPS = 16


def step_scores(text: str, right: str) -> list[float]:
    """10 or 0 for each word of a response, or every few words where there are more than the most: the worked answer has them
    there. A response without words is one wrong step."""
    ours, theirs = text.split(), right.split()
    size = -(-len(ours) // MOST_STEPS) or 1
    found = [10.0 * (ours[at : at + size] == theirs[at : at + size]) for at in range(0, len(ours), size)]
    return found or [0.0]


def each_step_beside_the_whole(worked: Sequence[str]) -> Advantage:
    """ovd-steps: each row's step against all steps of the group, plus the response against the responses."""

    def advantage(rollouts: Rollouts, samples: int) -> Tensor:
        pairs = list(zip(texts(rollouts), prompts_of(rollouts), strict=True))
        scores = [step_scores(text, worked[at]) for text, at in pairs]
        by_step_BR = torch.zeros(rollouts.response_BR.shape)
        for place, (text, _) in enumerate(pairs):
            first = place - place % samples
            group = torch.tensor([one for member in scores[first : first + samples] for one in member], dtype=torch.float64)
            own = (torch.tensor(scores[place], dtype=torch.float64) - group.mean()) / (group.std(correction=0) + 1e-4)
            size, last = -(-len(text.split()) // MOST_STEPS) or 1, len(own) - 1
            rows = words_of(rollouts.response_BR[place, rollouts.valid_BR[place]].tolist())
            by_step_BR[place, : len(rows)] = own[[min(word // size, last) for word in rows]].float()
        return by_step_BR + against_the_group(steps_in_place(worked)(rollouts), samples, 1e-4)

    return advantage


def criteria_met(worked: Sequence[str]) -> Reward:
    """The share of the worked answer's words that the response has in their place."""

    def reward(rollouts: Rollouts) -> Tensor:
        shares: list[float] = []
        for text, at in zip(texts(rollouts), prompts_of(rollouts), strict=True):
            wanted, found = worked[at].split(), text.split()
            shares.append(sum(found[n : n + 1] == [word] for n, word in enumerate(wanted)) / len(wanted))
        return torch.tensor(shares, dtype=torch.float64)

    return reward


def prompts_of(rollouts: Rollouts) -> list[int]:
    return [int(one) for one in rollouts.prompts_B]


def texts(rollouts: Rollouts) -> list[str]:
    return [text_of(ids[valid].tolist()) for ids, valid in zip(rollouts.response_BR, rollouts.valid_BR, strict=True)]


def against_the_group(rewards: Tensor, samples: int, offset: float | None) -> Tensor:
    """Each reward minus its group's mean, over the group's spread plus an offset where there is one, [B, 1]."""
    groups = rewards.view(-1, samples)
    over = 1.0 if offset is None else groups.std(1, correction=0, keepdim=True) + offset
    return ((groups - groups.mean(1, keepdim=True)) / over).view(-1, 1).float()


def graded(reward: Reward, offset: float | None) -> Objective:
    """tiny-verbal: by policy gradient."""

    def objective(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        advantage = against_the_group(reward(rollouts), settings.samples_per_prompt, offset)
        return by_draw(advantage.expand_as(rollouts.response_BR), student, rollouts)

    return objective


def graded_and_taught(reward: Reward) -> Objective:
    """rubric-kl: rewards against their group, and a tenth of the reverse KL."""

    def objective(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        taught = on_support(reverse)(student, teacher, rollouts, settings)
        return graded(reward, None)(student, teacher, rollouts, settings) + 0.1 * taught

    return objective


def within_a_fifth(reward: Reward, offset: float | None) -> Objective:
    """ropd, and grpo and ovd with each sequence alike: the clipped surrogate of the ratio to the drawing probability."""

    return clipped_by(lambda rollouts, samples: against_the_group(reward(rollouts), samples, offset))


def clipped_by(advantage_of: Advantage) -> Objective:
    """The clipped surrogate of the ratio to the drawing probability."""

    def objective(student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        advantage = advantage_of(rollouts, settings.samples_per_prompt)
        assert rollouts.logged_BR is not None, "the student drew them"
        ratio = (drawn(student, rollouts) - rollouts.logged_BR).exp()
        return -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)

    return objective


# ---------------------------------------------------------------- who draws


@dataclass
class Older:
    """Rollouts of the weights that were published last, every so many steps."""

    model: Model
    every_steps: int

    def __call__(self, student: Model, teacher: Model, prompts: Prompts, step: int, settings: Settings) -> Rollouts:
        if step % self.every_steps == 0:
            self.model.load_state_dict(student.state_dict())
        return generate(self.model, prompts, step, settings)

    @classmethod
    def of(cls, student: Model, every_steps: int) -> Older:
        return cls(deepcopy(student), every_steps)


@dataclass
class TwoSources:
    """gkd: half the JSD on text of the teacher, sample 0 of each prompt, and half that on the student's own, sample 1."""

    student: Model
    teacher: Model
    written: list[Rollouts] = field(default_factory=list[Rollouts])

    def draw(self, student: Model, teacher: Model, prompts: Prompts, step: int, settings: Settings) -> Rollouts:
        self.written.append(generate(teacher, prompts, step, settings))
        return generate(student, prompts, step, settings, first_sample=1)

    def loss(self, student: Tensor, teacher: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        part = on_support(jsd, 16, student_top=False)
        other = self.written[-1]
        there = part(score(self.student, other), score(self.teacher, other).detach(), other, settings)[other.valid_BR].mean()
        return 0.5 * part(student, teacher, rollouts, settings) + 0.5 * there
