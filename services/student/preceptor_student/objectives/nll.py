"""Minus the student's log-probability of each written token."""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every row: a written token needs no score."""
    return np.ones_like(signal.valid_r)


def loss(rows: TermRows, _params: NoParams) -> Tensor:
    """Nats of each row."""
    return -rows.student_sampled_n()
