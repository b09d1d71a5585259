"""Reverse KL, and forward KL where the teacher is undecided."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec, Params
from preceptor.recipes.schedules import NotNegative


class EntropyGatedKlParams(Params):
    """Where the gate stands, and what remains behind it."""

    threshold_nats: NotNegative
    """The gate opens above this entropy of the teacher over support and tail; that is at most its entropy over all tokens."""

    forward_weight: NotNegative = 1.0
    """Factor of KL(teacher || student) where the gate is open; it is not computed into the loss elsewhere."""

    reverse_weight: NotNegative = 1.0
    """Factor of KL(student || teacher) where the gate is open; elsewhere it is 1. At 0 the gate switches, at 1 it adds."""


SPEC = OpSpec(
    "entropy_gated_kl",
    Kind.OBJECTIVE,
    "KL(student || teacher), joined or replaced by KL(teacher || student) where the teacher's entropy is high",
    params=EntropyGatedKlParams,
    gradient=Gradient.PATHWISE,
    reads=frozenset({"support"}),
)
