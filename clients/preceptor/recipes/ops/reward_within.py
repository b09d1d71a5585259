"""Rollouts whose reward lies within bounds."""

from preceptor.recipes.ops.quantities import Bounds
from preceptor.recipes.ops.spec import REWARDS, Kind, OpSpec

SPEC = OpSpec("reward_within", Kind.CONDITION, "rollouts whose reward lies within bounds", params=Bounds, reads=REWARDS)
