"""The advantages of a response, each row given what follows from it on."""

from typing import Annotated

from pydantic import AfterValidator, Field

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Number, within


class RewardToGoParams(Params):
    """How far ahead counts, and how much."""

    discount: Annotated[Number, AfterValidator(within(gt=0.0, le=1.0))] = 1.0
    """Each further row counts this much less; 1: all the same."""

    include_current: bool = True
    """Whether the row's own number is in the sum. Without it, give the row's own part a term of its own, such as a divergence."""

    mean: bool = False
    """Divide by the number of rows in the sum: length-normalised. A row that nothing follows has zero."""

    horizon: int | None = Field(default=None, ge=1)
    """How many rows the sum takes at most; unset: to the end of the response."""


def idle(params: RewardToGoParams) -> str:
    return "a horizon of the current row alone is the advantage itself" if params.include_current and params.horizon == 1 else ""


SPEC = OpSpec(
    "reward_to_go", Kind.TRANSFORM, "the discounted sum or mean of the advantages that follow", params=RewardToGoParams, idle=idle
)
