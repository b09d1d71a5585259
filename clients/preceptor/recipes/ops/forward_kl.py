"""KL(teacher || student) of each row: mass-covering, and exact where the support holds every token."""

from preceptor.recipes.ops.divergence import WHOLE_OR_SUPPORT, DivergenceParams
from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec

SPEC = OpSpec(
    "forward_kl",
    Kind.OBJECTIVE,
    "KL(teacher || student) on the support and its tail",
    params=DivergenceParams,
    gradient=Gradient.PATHWISE,
    reads=WHOLE_OR_SUPPORT,
)
