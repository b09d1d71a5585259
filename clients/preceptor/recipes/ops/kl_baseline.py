"""The closed-form baseline of k1: its own expectation under the student is taken away, which leaves the mean of the gradient
as it is."""

from preceptor.recipes.ops.spec import Kind, OpSpec

SPEC = OpSpec(
    "kl_baseline",
    Kind.TRANSFORM,
    "the advantage plus the detached reverse KL of the row: what k1 is minus what it is on average",
    reads=frozenset({"support"}),
)
