"""KL(teacher || student) and KL(student || teacher), weighted by how far the sides differ in the teacher's head and in its tail.

The forward part works on what the teacher finds likely, the reverse part on the rest; each gets the weight of the absolute
difference in probability there. Where the sides agree both parts are zero, and so is the loss.
"""

import torch
from torch import Tensor

from preceptor.recipes.ops.adaptive_kl import AdaptiveKlParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.directions import forward_and_reverse
from preceptor_student.objectives.divergence import finite_where_teacher_is
from preceptor_student.objectives.rows import TermRows, buckets
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, head_rows: int) -> Mask:
    """Rows on which the reverse part is finite."""
    return finite_where_teacher_is(signal, head_rows)


def loss(rows: TermRows, params: AdaptiveKlParams) -> Tensor:
    """Nats of each row."""
    forward_n, reverse_n = forward_and_reverse(rows)
    head_n, tail_n = _differences(rows, plain(params.head_mass))
    share_n = head_n / (head_n + tail_n).clamp_min(torch.finfo(head_n.dtype).tiny)
    return share_n * forward_n + (1 - share_n) * reverse_n


@torch.no_grad()
def _differences(rows: TermRows, head_mass: float) -> tuple[Tensor, Tensor]:
    """The sum of |p - q| over the head and over everything else."""
    both = buckets(rows)
    zero = both.student_nb.new_zeros(())
    p_nb, q_nb = (x.exp().where(both.there_nb, zero) for x in (both.student_nb, both.teacher_nb))
    sorted_nb, order_nb = q_nb.sort(dim=1, descending=True, stable=True)
    before_nb = sorted_nb.cumsum(1) - sorted_nb
    head_nb = (before_nb < head_mass).gather(1, order_nb.argsort(1))
    apart_nb = (p_nb - q_nb).abs()
    return apart_nb.where(head_nb, zero).sum(1), apart_nb.where(~head_nb, zero).sum(1)
