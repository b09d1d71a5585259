"""Less weight on rollouts that older weights drew."""

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import OpenUnit


class FreshnessParams(Params):
    """How fast a rollout ages."""

    decay: OpenUnit
    """Weight of a rollout whose newest token is one step old; two steps old: its square."""


SPEC = OpSpec(
    "freshness", Kind.SAMPLE_WEIGHT, "decay to the power of how many steps ago the rollout was drawn", params=FreshnessParams
)
