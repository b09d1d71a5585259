"""KL(target || student), the target a detached geometric mixture of student and teacher, normalised over the buckets.

A token that the teacher says is impossible is impossible in the target.
"""

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.soft_targets import SoftTargetsParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.rows import TermRows, buckets
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Rows on which the teacher gives some bucket a probability."""
    support = signal.support
    assert support is not None, "the linter lets divergences read supports only"
    some_r = (np.isfinite(support.teacher_rs) & support.there_rs).any(axis=1)
    return np.asarray(some_r if support.tail_r is None else some_r | np.isfinite(support.tail_r))


def loss(rows: TermRows, params: SoftTargetsParams) -> Tensor:
    """Nats of each row."""
    share, both = plain(params.teacher_share), buckets(rows)
    possible_nb = (both.teacher_nb > -torch.inf) & both.there_nb
    zero = both.student_nb.new_zeros(())
    teacher_nb = both.teacher_nb.where(possible_nb, zero)
    mixed_nb = share * teacher_nb + (1 - share) * both.student_nb.detach()
    target_nb = mixed_nb.masked_fill(~possible_nb, -torch.inf).log_softmax(1).where(possible_nb, zero)
    summand_nb = target_nb.exp() * (target_nb - both.student_nb)
    return summand_nb.where(possible_nb, zero).sum(1)
