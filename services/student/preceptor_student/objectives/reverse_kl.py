"""KL(student || teacher): the sum over buckets of student * (log student - log teacher).

On the full support it is the exact divergence; on a smaller one with a tail it is the divergence of the two coarser
distributions, a lower bound. Where the teacher says "probability zero" of a token, or of a tail that the student can
reach, the divergence is infinite: such a row cannot be used and is counted as skipped.
"""

from torch import Tensor

from preceptor.recipes.ops.reverse_kl import ReverseKlParams
from preceptor_student.objectives.divergence import finite_where_teacher_is, total
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal

EXACT = ReverseKlParams()


def usable(signal: Signal, head_rows: int) -> Mask:
    """Rows on which the divergence is finite."""
    return finite_where_teacher_is(signal, head_rows)


def summand(student: Tensor, teacher: Tensor, params: ReverseKlParams) -> Tensor:
    log_ratio = student - teacher
    return student.exp() * (log_ratio.detach() if params.stop_gradient else log_ratio)


def loss(rows: TermRows, params: ReverseKlParams) -> Tensor:
    """Nats of each row."""
    return total(rows, summand, params)
