"""The expected objective of every shipped recipe in plain formulas on whole vocabularies: what its gradient is the gradient of.

Nothing here reads the maths that is tested. Where a method does not differentiate through something (how often a prefix comes, an
advantage, a weight), it is a number here. To ship a recipe: its row in `EXPECTED`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.objectives.world import Tokens, World
from tests.reference import divergence_oracle as oracle

TOP = 1  # teacher_topk and student_topk of the shrunk recipes
CLIP = 0.3
FIRST = 2  # rows of prefix-opd


@dataclass(frozen=True)
class Row:
    """One row of a response: log-probabilities of all tokens, the student's with gradient."""

    p: Tensor
    teachers: dict[str, Tensor]
    token: int

    @property
    def q(self) -> Tensor:
        return self.teachers["tutor"]

    def divergence(
        self, formula: oracle.Divergence, teacher: str = "tutor", *, student_top: int = TOP, sampled: bool = True
    ) -> Tensor:
        """Over the members, and all other tokens as one."""
        p, q = self.p.exp(), self.teachers[teacher].exp()
        members = {*q.argsort(descending=True)[:TOP].tolist(), *p.argsort(descending=True)[:student_top].tolist()}
        members |= {self.token} if sampled else set()
        outside = [at for at in range(len(p)) if at not in members]
        sides = [torch.cat([one[sorted(members)], one[outside].sum()[None]] if outside else [one]) for one in (p, q)]
        return formula(*(one[None] for one in sides))[0]

    def by_draw(self, advantage: Tensor) -> Tensor:
        """The mean over the token of minus advantage * log student, the advantage of each token a number."""
        return -(self.p.exp() * advantage.detach()).sum()


def entropy(log_probs: Tensor) -> float:
    return -float((log_probs.exp() * log_probs).sum())


def undecided(vocabulary: int) -> float:
    """The entropy at which shrunk recipes put their bounds."""
    return 0.75 * math.log(vocabulary)


def rows_of(here: World, tokens: Tokens) -> list[Row]:
    student = here.rows(here.student, tokens)
    teachers = {name: here.rows(table, tokens) for name, table in here.teachers.items()}
    return [Row(student[at], {name: one[at] for name, one in teachers.items()}, token) for at, token in enumerate(tokens)]


def drawn(here: World, writer: str = "") -> Iterator[tuple[Tokens, float]]:
    """Responses and how often they come: from the student, or what draws in its place, or from a teacher."""
    for tokens, probability in here.sequences():
        yield tokens, float(here.log_prob(tokens, here.teachers[writer]).exp()) if writer else probability


def mean_of_rows(here: World, of: Callable[[Row], Tensor], writer: str = "", rows: int = 99, skip: int = 0) -> Tensor:
    """The mean over responses of the mean over their first rows, without those that are skipped."""
    total = torch.zeros((), dtype=torch.float64)
    for tokens, probability in drawn(here, writer):
        total = total + probability * torch.stack([of(row) for row in rows_of(here, tokens)[skip:rows]]).mean()
    return total


# ---------------------------------------------------------------- of one row


def k1(row: Row) -> Tensor:
    """The mean of the one-sample estimate is the whole reverse KL of the row, with or without a baseline."""
    return oracle.reverse_kl(row.p.exp(), row.q.exp())


def reverse(row: Row) -> Tensor:
    return row.divergence(oracle.reverse_kl)


def by_itself(row: Row) -> Tensor:
    """Reverse KL from a copy of the student; whose weights it has and what it read is in its table."""
    return row.divergence(oracle.reverse_kl, "self")


def forward(row: Row) -> Tensor:
    return row.divergence(oracle.forward_kl)


def clipped(row: Row) -> Tensor:
    return row.by_draw((row.q - row.p).clamp(-CLIP, CLIP))


def beyond_the_teacher(row: Row) -> Tensor:
    """Reverse KL to the tilted target teacher^1.25 / base^0.25."""
    return (row.p.exp() * (row.p - 1.25 * row.q + 0.25 * row.teachers["base"])).sum()


def where_undecided(row: Row) -> Tensor:
    if entropy(row.teachers["same"]) < undecided(len(row.p)):
        return torch.zeros((), dtype=torch.float64)
    return row.divergence(oracle.forward_kl, "same", student_top=0, sampled=False)


def where_sure(teacher: str) -> Callable[[Row], Tensor]:
    return lambda row: row.divergence(oracle.reverse_kl, teacher) * float(entropy(row.teachers[teacher]) <= undecided(len(row.p)))


# ---------------------------------------------------------------- of whole responses


def later_rows(here: World) -> Tensor:
    """Each token answers for the mean log-ratio of the rows after it, which is its expectation, backwards through the tree."""

    def ahead(prefix: Tokens) -> float:
        """The mean sum of log-ratios from here to the end."""
        if len(prefix) == here.length:
            return 0.0
        p, q = (one[-1] for one in (here.rows(table, (*prefix, 0)).detach() for table in (here.student, here.teachers["tutor"])))
        return sum(
            float(p[token].exp()) * (float(q[token] - p[token]) + ahead((*prefix, token))) for token in range(here.vocabulary)
        )

    def of(tokens: Tokens) -> Tensor:
        parts = []
        for at, row in enumerate(rows_of(here, tokens)):
            left = here.length - 1 - at
            values = [ahead((*tokens[:at], token)) / max(left, 1) for token in range(here.vocabulary)]
            parts.append(row.by_draw(torch.tensor(values, dtype=torch.float64)))
        return torch.stack(parts).mean()

    return sum((probability * of(tokens) for tokens, probability in drawn(here)), torch.zeros(()))


def half_that_matters(here: World) -> Tensor:
    """Reverse KL of the rows where the student is undecided or far away, each over its largest; half of the rows count."""
    total = torch.zeros((), dtype=torch.float64)
    for tokens, probability in drawn(here):
        rows = rows_of(here, tokens)
        losses = [reverse(row) for row in rows]
        sides = [[entropy(row.p.detach()) for row in rows], [float(one.detach()) for one in losses]]
        undecided_or_far = [1 - (1 - h / max(sides[0])) * (1 - d / max(sides[1])) for h, d in zip(*sides, strict=True)]
        order = sorted(range(len(rows)), key=lambda at: -undecided_or_far[at])
        kept = order[: max(1, round(0.5 * len(rows)))]
        total = total + probability * sum(losses[at] for at in kept) / len(rows)
    return total


def reward(tokens: Tokens) -> float:
    return 2.0 * tokens[-1] + (tokens[0] == 1)


def against_the_group(here: World, offset: float | None, coefficient: Callable[[float, float], float]) -> Tensor:
    """Groups of two, graded: advantage, over the spread where an offset is given, times what the token's ratio leaves of it."""
    total = torch.zeros((), dtype=torch.float64)
    every = list(drawn(here))
    for first, second in ((a, b) for a in every for b in every):
        mean = (reward(first[0]) + reward(second[0])) / 2
        spread = 1.0 if offset is None else abs(reward(first[0]) - mean) + offset
        for tokens, _ in (first, second):
            advantage = (reward(tokens) - mean) / spread
            for at, row in enumerate(rows_of(here, tokens)):
                drawing = here.student if here.behaviour is None else here.behaviour
                ratio = math.exp(float(row.p[row.token].detach()) - float(here.rows(drawing, tokens).detach()[at, row.token]))
                part = coefficient(ratio, advantage) * row.p[row.token] / (2 * len(tokens))
                total = total - first[1] * second[1] * part
    return total


def steps_and_whole(here: World) -> Tensor:
    """Groups of two: of the rows of the step with the reward, all of several but the first, its advantage and the same once more
    as the whole response's; a response's mean is over these rows."""
    total = torch.zeros((), dtype=torch.float64)
    every = list(drawn(here))
    for first, second in ((a, b) for a in every for b in every):
        mean = (reward(first[0]) + reward(second[0])) / 2
        spread = abs(reward(first[0]) - mean) + 1e-4
        for tokens, _ in (first, second):
            advantage = 2 * (reward(tokens) - mean) / spread
            drawing = here.rows(here.student if here.behaviour is None else here.behaviour, tokens).detach()
            judged = list(enumerate(rows_of(here, tokens)))[min(1, len(tokens) - 1) :]
            for at, row in judged:
                ratio = math.exp(float(row.p[row.token].detach() - drawing[at, row.token]))
                part = within_a_fifth(ratio, advantage) * row.p[row.token] / (2 * len(judged))
                total = total - first[1] * second[1] * part
    return total


def audited(here: World) -> Tensor:
    """All rows but the first are one step with the reward, smoothed by the step's mean log-probability; the first is kept."""
    total = torch.zeros((), dtype=torch.float64)
    for tokens, probability in drawn(here):
        first, *step = rows_of(here, tokens)
        log_probs = torch.stack([row.p[row.token] for row in step])
        belief = (reward(tokens) + 0.25 * float(log_probs.detach().mean().exp())) / 1.25
        total = total + probability * (0.1 * first.divergence(oracle.forward_kl, "origin") - belief * log_probs.mean())
    return total


def where_one_passes(here: World, of: Callable[[Row], Tensor]) -> Tensor:
    """Groups of two that hold a response which passed: the mean over the rows of both."""
    total = torch.zeros((), dtype=torch.float64)
    every = list(drawn(here))
    for first, second in ((a, b) for a in every for b in every):
        if max(reward(first[0]), reward(second[0])) >= 1.0:
            rows = [of(row) for tokens, _ in (first, second) for row in rows_of(here, tokens)]
            total = total + first[1] * second[1] * torch.stack(rows).mean()
    return total


def where_it_failed(here: World, of: Callable[[Row], Tensor]) -> Tensor:
    """Groups of two: the mean over the rows of those that are far from passing; nothing where none is."""
    total = torch.zeros((), dtype=torch.float64)
    every = list(drawn(here))
    for first, second in ((a, b) for a in every for b in every):
        failed = [tokens for tokens, _ in (first, second) if reward(tokens) <= undecided(here.vocabulary)]
        if rows := [of(row) for tokens in failed for row in rows_of(here, tokens)]:
            total = total + first[1] * second[1] * torch.stack(rows).mean()
    return total


def preferred(here: World, beta: float) -> Tensor:
    """Groups of two, graded: how far the better one is ahead of the other, against the start's weights. A tie teaches nothing."""

    def margin(tokens: Tokens) -> Tensor:
        return here.log_prob(tokens) - here.log_prob(tokens, here.teachers["start"])

    total = torch.zeros((), dtype=torch.float64)
    every = list(drawn(here))
    for first, second in ((a, b) for a in every for b in every):
        if reward(first[0]) > reward(second[0]):  # the same two the other way round are as likely
            ahead = beta * (margin(first[0]) - margin(second[0]))
            total = total - 2 * first[1] * second[1] * torch.nn.functional.logsigmoid(ahead)
    return total


def within_a_fifth(ratio: float, advantage: float) -> float:
    """The clipped surrogate: nothing more is paid for what already went too far."""
    too_far = ratio > 1.2 if advantage > 0 else ratio < 0.8
    return 0.0 if too_far else ratio * advantage


def whole(ratio: float, advantage: float) -> float:
    """The advantage, whatever the ratio."""
    return advantage


JSD = oracle.jsd(0.5)
Expected = Callable[[World], Tensor]

EXPECTED: dict[str, Expected] = {
    "confidence-router": lambda here: mean_of_rows(here, where_sure("tutor")) + mean_of_rows(here, where_sure("second")),
    "distillm": lambda here: mean_of_rows(here, lambda row: row.divergence(oracle.skew_reverse(0.1))),
    "eopd": lambda here: mean_of_rows(here, k1) + mean_of_rows(here, where_undecided),
    "exopd": lambda here: mean_of_rows(here, beyond_the_teacher),
    "gad": lambda here: against_the_group(here, 1e-4, within_a_fifth),
    "gkd": lambda here: sum(
        (0.5 * mean_of_rows(here, lambda row: row.divergence(JSD, student_top=0), writer) for writer in ("tutor", "")),
        torch.zeros(()),
    ),
    "grpo": lambda here: against_the_group(here, 1e-4, within_a_fifth),
    "lightning": lambda here: mean_of_rows(here, clipped),
    "minillm": lambda here: mean_of_rows(here, reverse) + later_rows(here),
    "nitrobrew": lambda here: mean_of_rows(here, lambda row: oracle.reverse_kl(row.p.exp(), row.q.exp())),
    "off-policy-kd": lambda here: mean_of_rows(here, lambda row: row.divergence(oracle.forward_kl, student_top=0), "tutor"),
    "omniopd": audited,
    "opcd": lambda here: mean_of_rows(here, by_itself),
    "opsd": lambda here: mean_of_rows(here, lambda row: row.divergence(JSD, "self")),
    "opsdc": lambda here: mean_of_rows(here, by_itself),
    "ovd": lambda here: against_the_group(here, 1e-4, within_a_fifth),
    "ovd-steps": steps_and_whole,
    "preference-judge": lambda here: preferred(here, 0.3),
    "prefix-opd": lambda here: mean_of_rows(here, k1, rows=FIRST),
    "ropd": lambda here: against_the_group(here, None, within_a_fifth),
    "rubric-kl": lambda here: against_the_group(here, None, whole) + 0.1 * mean_of_rows(here, reverse),
    "sdpo": lambda here: where_one_passes(here, by_itself),
    "sdpo-critique": lambda here: where_it_failed(here, by_itself),
    "sdft": lambda here: mean_of_rows(here, by_itself, skip=1),
    "tiny-forward-kl": lambda here: mean_of_rows(here, forward),
    "tiny-k1": lambda here: mean_of_rows(here, k1),
    "tiny-reverse-kl": lambda here: mean_of_rows(here, reverse),
    "tiny-sft": lambda here: mean_of_rows(here, lambda row: -row.p[row.token], "tutor"),
    "tiny-skd": lambda here: mean_of_rows(here, forward),
    "tiny-trust-region": lambda here: mean_of_rows(here, reverse),
    "tiny-verbal": lambda here: against_the_group(here, 1.0, whole),
    "tip": half_that_matters,
    "vopd": lambda here: mean_of_rows(here, k1),
}
"""Recipe -> the mean of its loss over everything that may be drawn."""
