"""KL(student || teacher) of each row: mode-seeking, and exact where the support holds every token."""

from preceptor.recipes.ops.divergence import WHOLE_OR_SUPPORT, DivergenceParams
from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec


class ReverseKlParams(DivergenceParams):
    """Which of the two factors carries the gradient."""

    stop_gradient: bool = False
    """The student's probability carries the gradient, the log-ratio does not. On a support with a tail this is the same gradient;
    on a bare one it removes the part that pushes mass out of the support even where student and teacher agree."""


SPEC = OpSpec(
    "reverse_kl",
    Kind.OBJECTIVE,
    "KL(student || teacher) on the support and its tail",
    params=ReverseKlParams,
    gradient=Gradient.PATHWISE,
    reads=WHOLE_OR_SUPPORT,
)
