"""Minus the student's log-probability of each token that a teacher wrote: supervised fine-tuning."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec

SPEC = OpSpec(
    "nll",
    Kind.OBJECTIVE,
    "minus the student's log-probability of each written token",
    gradient=Gradient.LIKELIHOOD,
)
