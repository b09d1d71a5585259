"""A rollout's reward compared with those of its group, the same number for each of its tokens."""

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Positive


class GroupRelativeParams(Params):
    """Whether differences are also scaled."""

    std_offset: Positive | None = None
    """Unset: reward - group mean. A number: that divided by (population standard deviation of the group + this number)."""


SPEC = OpSpec(
    "group_relative",
    Kind.ADVANTAGE,
    "the rollout's reward minus the mean of its group, on request over the group's spread",
    params=GroupRelativeParams,
    reads=frozenset({"reward"}),
)
