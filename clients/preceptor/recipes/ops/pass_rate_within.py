"""Rollouts of groups whose pass rate lies within bounds."""

from preceptor.recipes.ops.quantities import Bounds
from preceptor.recipes.ops.spec import REWARDS, Kind, OpSpec


class PassRateWithinParams(Bounds):
    """The bounds are of a share, 0 to 1."""

    passed_at: float
    """A rollout has passed when its reward is at least this."""


SPEC = OpSpec(
    "pass_rate_within",
    Kind.CONDITION,
    "rollouts of groups whose share of passed rollouts lies within bounds",
    params=PassRateWithinParams,
    reads=REWARDS,
)
