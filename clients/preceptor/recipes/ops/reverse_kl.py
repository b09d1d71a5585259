"""KL(student || teacher) of each row: mode-seeking, and exact where the support holds every token."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec

SPEC = OpSpec(
    "reverse_kl",
    Kind.OBJECTIVE,
    "KL(student || teacher) on the support and its tail, full-vocabulary log-probabilities, never renormalised",
    gradient=Gradient.PATHWISE,
    reads=frozenset({"support"}),
)
