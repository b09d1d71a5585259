"""The generalised Jensen-Shannon divergence: both sides against their mixture."""

from preceptor.recipes.ops.divergence import WHOLE_OR_SUPPORT, DivergenceParams
from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec
from preceptor.recipes.schedules import OpenUnit


class JsdParams(DivergenceParams):
    """How much of the mixture is the teacher's."""

    beta: OpenUnit = 0.5
    """m = beta * teacher + (1 - beta) * student; the loss is beta * KL(teacher || m) + (1 - beta) * KL(student || m)."""


SPEC = OpSpec(
    "jsd",
    Kind.OBJECTIVE,
    "beta * KL(teacher || m) + (1 - beta) * KL(student || m), m the beta-mixture of both, on the support and its tail",
    params=JsdParams,
    gradient=Gradient.PATHWISE,
    reads=WHOLE_OR_SUPPORT,
)
