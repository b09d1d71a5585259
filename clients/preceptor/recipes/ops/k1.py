"""log teacher - log student of the drawn token: a one-sample estimate of minus the reverse KL, as a per-token advantage."""

from preceptor.recipes.ops.spec import Kind, OpSpec

SPEC = OpSpec(
    "k1",
    Kind.ADVANTAGE,
    "log teacher - log student of each drawn token, under the weights that are being trained",
    reads=frozenset({"sampled"}),
)
