"""One update by Bradley and Terry: the teacher's text is preferred to each response, -log sigmoid(D(teacher) - D(response)).

The loss of an update is the mean over all pairs of its groups. What a score weighs in it is known from the scores alone, which
were told before the update and are those of the same weights; so each text is read forward and backward once, some at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from preceptor.errors import Corrupt
from preceptor_teacher.discriminator.groups import ScoredGroup
from preceptor_teacher.discriminator.scorer import Scorer

BETAS, EPSILON, MOST_NORM = (0.9, 0.999), 1e-8, 1.0
STATE = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class Meters:
    """What an update saw before it moved anything. `accuracy`: pairs whose teacher's text scores higher, a tie being half."""

    loss: float
    accuracy: float
    gap: float
    pairs: int


def pair_losses(teacher: Tensor, responses_n: Tensor) -> Tensor:
    """[n] nats: log 2 where both score alike."""
    return softplus(responses_n - teacher)


def weighed(groups: Sequence[ScoredGroup]) -> tuple[Meters, list[list[float]]]:
    """What the pairs say, and of each group the derivative of the loss by the teacher's score and by each text's."""
    total = sum(sum(one.asked.counts) for one in groups)
    leaves = [torch.tensor([one.answer.teacher, *one.answer.texts], dtype=torch.float64, requires_grad=True) for one in groups]
    counts = [torch.tensor(one.asked.counts, dtype=torch.float64) for one in groups]
    both = list(zip(leaves, counts, strict=True))
    loss = torch.stack([(pair_losses(leaf[0], leaf[1:]) * count).sum() for leaf, count in both]).sum() / total
    derivatives = torch.autograd.grad(loss, leaves)
    gaps = torch.cat([(leaf[0] - leaf[1:]).detach().repeat_interleave(count.long()) for leaf, count in both])
    right = float(((gaps > 0).double() + 0.5 * (gaps == 0).double()).mean())
    return Meters(float(loss.detach()), right, float(gaps.mean()), total), [one.tolist() for one in derivatives]


class Trainer:
    """AdamW over all weights of a scorer."""

    def __init__(self, scorer: Scorer, learning_rate: float, texts_at_once: int) -> None:
        self._scorer, self._texts_at_once = scorer, texts_at_once
        self._adamw = torch.optim.AdamW(
            list(scorer.named().values()), lr=learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0, foreach=False
        )

    @torch.no_grad()
    def score(self, prompt: str, texts: Sequence[str]) -> list[float]:
        """Of each text as a reply to the prompt."""
        ids = [self._scorer.ids(prompt, text) for text in texts]
        return [float(score) for first in self._firsts(len(ids)) for score in self._scorer.scores(ids[first])]

    def update(self, groups: Sequence[ScoredGroup]) -> Meters | None:
        """One clipped step on groups that these very weights scored. None, and nothing moved: the gradient is not finite."""
        meters, derivatives = weighed(groups)
        self._adamw.zero_grad(set_to_none=True)
        for group, weights in zip(groups, derivatives, strict=True):
            self._backward(group, weights)
        weights = list(self._scorer.named().values())
        norm = float(torch.nn.utils.clip_grad_norm_(weights, MOST_NORM, foreach=False))
        if not math.isfinite(norm) or not math.isfinite(meters.loss):
            return None
        self._adamw.step()
        return meters

    def _backward(self, group: ScoredGroup, weights: Sequence[float]) -> None:
        ids = [self._scorer.ids(group.asked.prompt, text) for text in (group.asked.teacher, *group.asked.texts)]
        for some in self._firsts(len(ids)):
            scores = self._scorer.scores(ids[some])
            (scores * torch.tensor(weights[some], device=scores.device)).sum().backward()

    def _firsts(self, count: int) -> Iterator[slice]:
        return (slice(first, first + self._texts_at_once) for first in range(0, count, self._texts_at_once))

    def optimiser_state(self) -> dict[str, Tensor]:
        """`moment/weight` -> tensor; empty before the first update."""
        kept = self._adamw.state
        return {f"{part}/{name}": kept[one][part] for name, one in self._scorer.named().items() if one in kept for part in STATE}

    def weights(self) -> dict[str, Tensor]:
        return {name: one.detach().contiguous() for name, one in self._scorer.named().items()}

    def restore(self, weights: Mapping[str, Tensor], optimiser: Mapping[str, Tensor]) -> None:
        """Takes over what `weights` and `optimiser_state` gave, to the bit."""
        mine = self._scorer.named()
        known = {f"{part}/{name}" for name in mine for part in STATE}
        if weights.keys() != mine.keys() or not optimiser.keys() <= known:
            odd = sorted((weights.keys() ^ mine.keys()) | (optimiser.keys() - known))[0]
            raise Corrupt(
                "the checkpoint is of another model", field="model.safetensors", value=odd, limit="the model's own weights"
            )
        for name, one in mine.items():
            one.data.copy_(weights[name])
            moved = {part: optimiser[f"{part}/{name}"] for part in STATE if f"{part}/{name}" in optimiser}
            if moved:  # a weight that no text reaches has no state
                self._adamw.state[one] = {part: value if part == "step" else value.to(one) for part, value in moved.items()}
