"""The entropy of the teacher's distribution."""

import numpy as np

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.signals import ItemScores, Signal


def read(scores: ItemScores, _params: NoParams) -> Signal:
    """A row is valid when it has a number."""
    if scores.entropy_r is None:
        return Signal(np.zeros_like(scores.ok_r))
    return Signal(scores.ok_r & ~np.isnan(scores.entropy_r), entropy_r=scores.entropy_r)
