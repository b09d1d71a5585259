"""KL(teacher || student): the sum over buckets of teacher * (log teacher - log student).

A bucket of probability zero under the teacher contributes nothing. Where student and teacher agree on the support and its
tail it is exactly zero; on a smaller support with a tail it is a lower bound of the full divergence.
"""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor_student.objectives.divergence import total, weighted_log
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: a zero of the teacher's is a zero of the summand."""
    return np.ones_like(signal.valid_r)


def summand(student: Tensor, teacher: Tensor, _params: DivergenceParams) -> Tensor:
    return weighted_log(teacher, lambda log_q: log_q - student)


def loss(rows: TermRows, params: DivergenceParams) -> Tensor:
    """Nats of each row."""
    return total(rows, summand, params)
