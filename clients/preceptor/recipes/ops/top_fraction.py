"""The share of a response's rows with the largest weights so far, each given the weight one; the others get none."""

from typing import Annotated

from pydantic import AfterValidator

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Number, always, within


class TopFractionParams(Params):
    """How many stay."""

    fraction: Annotated[Number, AfterValidator(within(gt=0.0, le=1.0))]
    """The share of a response's rows; rounded to whole rows, at least one. Of equal weights the earlier row stays."""


def idle(params: TopFractionParams) -> str:
    return "a fraction of one keeps every row" if always(params.fraction, 1.0) else ""


SPEC = OpSpec(
    "top_fraction", Kind.TOKEN_WEIGHT, "one for the rows of largest weight so far, else zero", params=TopFractionParams, idle=idle
)
