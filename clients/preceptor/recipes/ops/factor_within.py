"""The advantage so far times one factor where a quantity lies within bounds, another elsewhere: gates, damping, sign flips."""

from preceptor.recipes.ops.quantities import FactorWithin, reads
from preceptor.recipes.ops.spec import Kind, OpSpec

SPEC = OpSpec(
    "factor_within",
    Kind.TRANSFORM,
    "the advantage times one factor where a quantity of the row lies within bounds, another elsewhere",
    params=FactorWithin,
    reads_of=reads,
)
