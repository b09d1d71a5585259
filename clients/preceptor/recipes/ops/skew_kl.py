"""A KL divergence whose reference is mixed with the other side, which bounds the log-ratio."""

from typing import Literal

from preceptor.recipes.ops.divergence import WHOLE_OR_SUPPORT, DivergenceParams
from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec
from preceptor.recipes.schedules import OpenUnit


class SkewKlParams(DivergenceParams):
    """Which side leads, and how much of it the reference holds."""

    direction: Literal["forward", "reverse"]
    """forward: KL(teacher || skew * teacher + (1 - skew) * student);
    reverse: KL(student || skew * student + (1 - skew) * teacher)."""

    skew: OpenUnit = 0.1
    """The leading side's share of the reference."""


SPEC = OpSpec(
    "skew_kl",
    Kind.OBJECTIVE,
    "KL of teacher or student against a mixture of both, on the support and its tail",
    params=SkewKlParams,
    gradient=Gradient.PATHWISE,
    reads=WHOLE_OR_SUPPORT,
)
