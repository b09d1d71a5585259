"""What every divergence can be told beside its own parameters: where summands are cut off, and whether the tail is sampled."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from preceptor.recipes.ops.spec import Params
from preceptor.recipes.schedules import Positive

WHOLE_OR_SUPPORT = frozenset({"support", "hidden"})
"""What a divergence that is one sum over tokens can read."""


class DivergenceParams(Params):
    """Shared by all divergences on a support."""

    entry_clamp: Positive | None = None
    """No bucket's summand counts for more than this; where it is cut off it has no gradient. Biased; the sum may be negative."""

    row_clamp: Positive | None = None
    """No row counts for more than this; where it is cut off it has no gradient. Biased."""

    unbiased: bool = False
    """Corrects the tail bucket by the token that the student drew, so that loss and gradient have the mean of the divergence over
    the whole vocabulary. Needs a support with `sampled: apart` and a tail, on rollouts that the student has just drawn."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.unbiased and (self.entry_clamp is not None or self.row_clamp is not None):
            raise ValueError("a clamp biases what `unbiased` corrects: set one of them")
        return self
