"""The reward of a row's step, smoothed with how likely the step is to the student itself."""

from __future__ import annotations

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import NotNegative


class StepBeliefParams(Params):
    """(reward + own * p) / (1 + own), p being the geometric mean of the student's probabilities of the step's tokens."""

    own: NotNegative = 0.0
    """How much the student's own belief counts beside one verdict; 0: the reward of the step alone."""


SPEC = OpSpec(
    "step_belief",
    Kind.ADVANTAGE,
    "the reward of each row's step, on request smoothed with the student's own probability of the step",
    params=StepBeliefParams,
    reads=frozenset({"step_reward"}),
)
