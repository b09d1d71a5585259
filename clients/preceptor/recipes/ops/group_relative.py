"""A rollout's reward compared with those of its group, the same number for each of its tokens."""

from typing import Literal

from preceptor.recipes.ops.spec import REWARDS, Kind, OpSpec, Params
from preceptor.recipes.schedules import Number, Positive, always


class GroupRelativeParams(Params):
    """Against what a reward is held, and whether differences are also scaled."""

    baseline: Literal["group", "others"] = "group"
    """group: the mean of the whole group; others: the mean of the other rollouts, which keeps the gradient unbiased."""

    std_offset: Positive | None = None
    """Unset: reward - baseline. A number: that divided by (population standard deviation of the group + this number)."""

    scale: Number = 1.0
    """Multiplies the result, where several advantages are added."""


def idle(params: GroupRelativeParams) -> str:
    return "a scale of zero leaves nothing of it" if always(params.scale, 0.0) else ""


SPEC = OpSpec(
    "group_relative",
    Kind.ADVANTAGE,
    "the rollout's reward minus the mean of its group, on request over the group's spread",
    params=GroupRelativeParams,
    reads=REWARDS,
    idle=idle,
)
