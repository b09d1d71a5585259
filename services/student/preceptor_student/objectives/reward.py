"""A grader's verdict on the whole sequence."""

import math

import numpy as np

from preceptor.recipes.ops import Params
from preceptor_student.objectives.signals import ItemScores, Signal


def read(scores: ItemScores, _params: Params) -> Signal:
    """All rows of a graded sequence are valid, none of one without a finite verdict."""
    graded = scores.reward is not None and math.isfinite(scores.reward)
    return Signal(np.full(len(scores.ok_r), graded), reward=scores.reward if graded else None)
