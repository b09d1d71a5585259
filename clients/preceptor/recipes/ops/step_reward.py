"""A grader's verdict on each step of a rollout: one number for all tokens of a step, and no log-probability at all."""

from __future__ import annotations

from dataclasses import replace

from preceptor.recipes.ops.reward import RewardParams
from preceptor.recipes.ops.reward import needs as of_reward
from preceptor.recipes.ops.spec import Kind, Needs, OpSpec


class StepRewardParams(RewardParams):
    """Which grader judges, and what it is told; it has to be one that tells steps apart."""


def needs(params: StepRewardParams) -> Needs:
    return replace(of_reward(params), steps=True)


SPEC = OpSpec(
    "step_reward", Kind.SIGNAL, "a grader's verdict on each step, at every row of the step", params=StepRewardParams, needs=needs
)
