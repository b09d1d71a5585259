"""Bounded f-divergences by the name of their generator."""

from typing import Literal

from preceptor.recipes.ops.divergence import WHOLE_OR_SUPPORT, DivergenceParams
from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec


class FDivergenceParams(DivergenceParams):
    """Which one."""

    generator: Literal["total_variation", "squared_hellinger", "triangular"]
    """total_variation: half the sum of |p - q|; squared_hellinger: half the sum of (sqrt p - sqrt q)^2; triangular: half the sum
    of (p - q)^2 / (p + q). All lie between 0 and 1."""


SPEC = OpSpec(
    "f_divergence",
    Kind.OBJECTIVE,
    "total variation, squared Hellinger or triangular discrimination on the support and its tail",
    params=FDivergenceParams,
    gradient=Gradient.PATHWISE,
    reads=WHOLE_OR_SUPPORT,
)
