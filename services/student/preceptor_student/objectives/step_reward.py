"""A grader's verdict on each step, at every row of the step."""

import numpy as np

from preceptor.recipes.ops.step_reward import StepRewardParams
from preceptor_student.objectives.signals import ItemScores, Signal


def read(scores: ItemScores, _params: StepRewardParams) -> Signal:
    """Rows whose step has a reward are valid; a rollout without a verdict on steps has none, and no column either."""
    if scores.step_reward_r is None:
        return Signal(np.zeros(len(scores.ok_r), bool))
    return Signal(np.isfinite(scores.step_reward_r), step_reward_r=scores.step_reward_r, step_r=scores.step_r)
