"""One weight where a quantity of the row lies within bounds, another elsewhere."""

from typing import Self

from pydantic import model_validator

from preceptor.recipes.ops.quantities import FactorWithin, reads
from preceptor.recipes.ops.spec import Kind, OpSpec
from preceptor.recipes.schedules import ends


class WithinParams(FactorWithin):
    """Weights are not negative."""

    @model_validator(mode="after")
    def _not_negative(self) -> Self:
        if any(end < 0 for factor in (self.inside, self.outside) for end in ends(factor)):
            raise ValueError("a weight below zero turns the objective round; an advantage has factor_within for that")
        return self


SPEC = OpSpec(
    "within",
    Kind.TOKEN_WEIGHT,
    "one weight where a quantity of the row lies within bounds, another elsewhere",
    params=WithinParams,
    reads_of=reads,
)
