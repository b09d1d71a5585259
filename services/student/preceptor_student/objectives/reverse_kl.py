"""KL(student || teacher): the sum over buckets of student * (log student - log teacher).

On the full support it is the exact divergence; on a smaller one with a tail it is the divergence of the two coarser
distributions, a lower bound. Where the teacher says "probability zero" of a token, or of a tail that the student can
reach, the divergence is infinite: such a row cannot be used and is counted as skipped. Nothing is clamped.
"""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.rows import TermRows, buckets
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, head_rows: int) -> Mask:
    """Rows on which the divergence is finite."""
    support = signal.support
    assert support is not None, "the linter lets divergences read supports only"
    zero_r = np.asarray((np.isneginf(support.teacher_rs) & support.there_rs).any(axis=1))
    if support.tail_r is not None:
        zero_r |= np.isneginf(support.tail_r) & (support.there_rs.sum(axis=1) < head_rows)
    return ~zero_r


def loss(rows: TermRows, _params: NoParams) -> Tensor:
    """Nats of each row."""
    both = buckets(rows)
    return both.total(both.student_nb.exp() * (both.student_nb - both.teacher_nb))
