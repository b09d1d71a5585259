"""Only rows that no step with a reward covers, of rollouts that were judged. Rows that are left out are not counted anywhere."""

from preceptor.recipes.ops.spec import Kind, OpSpec

SPEC = OpSpec(
    "unjudged",
    Kind.TOKEN_WEIGHT,
    "only rows of judged rollouts whose step has no reward",
    reads=frozenset({"step_reward"}),
)
