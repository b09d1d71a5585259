"""Forward and reverse KL, mixed row by row according to where the two sides differ: in the teacher's head or in its tail."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec, Params
from preceptor.recipes.schedules import OpenUnit


class AdaptiveKlParams(Params):
    """What counts as the head."""

    head_mass: OpenUnit = 0.5
    """The head is the shortest list of the teacher's most likely buckets that holds at least this mass."""


SPEC = OpSpec(
    "adaptive_kl",
    Kind.OBJECTIVE,
    "(h * KL(teacher || student) + t * KL(student || teacher)) / (h + t), h and t the differences in head and tail, detached",
    params=AdaptiveKlParams,
    gradient=Gradient.PATHWISE,
    reads=frozenset({"support"}),
)
