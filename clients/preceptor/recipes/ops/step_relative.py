"""The reward of a row's step compared with those of all judged steps of its group."""

from __future__ import annotations

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Positive


class StepRelativeParams(Params):
    """Whether differences are also scaled."""

    std_offset: Positive | None = None
    """Unset: reward - mean of the group's steps. A number: that over (their population standard deviation + this number)."""


SPEC = OpSpec(
    "step_relative",
    Kind.ADVANTAGE,
    "the reward of each row's step minus the mean of its group's steps, on request over their spread",
    params=StepRelativeParams,
    reads=frozenset({"step_reward"}),
)
