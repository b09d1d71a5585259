"""beta * KL(teacher || m) + (1 - beta) * KL(student || m) with m = beta * teacher + (1 - beta) * student.

Never above -beta log beta - (1 - beta) log(1 - beta), whatever the teacher says; a zero of the teacher's contributes nothing to
the first part and the full log(1 / (1 - beta)) to the second.
"""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.jsd import JsdParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.divergence import log_mixture, total, weighted_log
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: the divergence is bounded."""
    return np.ones_like(signal.valid_r)


def summand(student: Tensor, teacher: Tensor, params: JsdParams) -> Tensor:
    beta = plain(params.beta)
    mixed = log_mixture(teacher, student, beta)
    of_teacher = weighted_log(teacher, lambda log_q: log_q - mixed)
    return beta * of_teacher + (1 - beta) * student.exp() * (student - mixed)


def loss(rows: TermRows, params: JsdParams) -> Tensor:
    """Nats of each row."""
    return total(rows, summand, params)
