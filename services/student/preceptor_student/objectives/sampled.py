"""The teacher's log-probability of the drawn token."""

import numpy as np

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.signals import ItemScores, Signal


def read(scores: ItemScores, _params: NoParams) -> Signal:
    """A row is valid when it has a number; -inf is one."""
    if scores.sampled_r is None:
        return Signal(np.zeros_like(scores.ok_r))
    return Signal(scores.ok_r & ~np.isnan(scores.sampled_r), sampled_r=scores.sampled_r)
