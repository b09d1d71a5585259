"""beta * KL(teacher || m) + (1 - beta) * KL(student || m) with m = beta * teacher + (1 - beta) * student.

Never above -beta log beta - (1 - beta) log(1 - beta), whatever the teacher says; a zero of the teacher's contributes nothing to
the first part and the full log(1 / (1 - beta)) to the second.
"""

import math

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.jsd import JsdParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.rows import TermRows, buckets
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: the divergence is bounded."""
    return np.ones_like(signal.valid_r)


def loss(rows: TermRows, params: JsdParams) -> Tensor:
    """Nats of each row."""
    beta = plain(params.beta)
    both = buckets(rows)
    possible_nb = both.teacher_nb > -torch.inf
    teacher_nb, student_nb = both.teacher_nb.where(possible_nb, torch.zeros(())), both.student_nb
    alone_nb = student_nb + math.log1p(-beta)
    mixed_nb = torch.logaddexp(teacher_nb + math.log(beta), alone_nb).where(possible_nb, alone_nb)
    of_teacher_nb = (teacher_nb.exp() * (teacher_nb - mixed_nb)).where(possible_nb, torch.zeros(()))
    return both.total(beta * of_teacher_nb + (1 - beta) * student_nb.exp() * (student_nb - mixed_nb))
