"""Rows of judged rollouts whose step has no reward."""

import numpy as np

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.signals import Mask, Signal


def choose(signal: Signal, _params: NoParams) -> Mask:
    """None of a rollout that nobody judged: that is a verdict missing, not a verdict that is silent on a row."""
    return np.zeros_like(signal.valid_r) if signal.step_reward_r is None else ~signal.valid_r
