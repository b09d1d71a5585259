"""KL(teacher || student): the sum over buckets of teacher * (log teacher - log student).

A bucket of probability zero under the teacher contributes nothing. Where student and teacher agree on the support and its
tail it is exactly zero; on a smaller support with a tail it is a lower bound of the full divergence.
"""

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.rows import TermRows, buckets
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: a zero of the teacher's is a zero of the summand."""
    return np.ones_like(signal.valid_r)


def loss(rows: TermRows, _params: NoParams) -> Tensor:
    """Nats of each row."""
    both = buckets(rows)
    possible_nb = both.teacher_nb > -torch.inf
    teacher_nb = both.teacher_nb.where(possible_nb, torch.zeros(()))
    summand_nb = teacher_nb.exp() * (teacher_nb - both.student_nb)
    return both.total(summand_nb.where(possible_nb, torch.zeros(())))
