"""forward: KL(teacher || m), m = skew * teacher + (1 - skew) * student; reverse: KL(student || m), m with the sides exchanged.

The log-ratio is at most log(1 / skew), whatever the teacher says, so neither direction is ever infinite.
"""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.skew_kl import SkewKlParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.divergence import log_mixture, total, weighted_log
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: the divergence is bounded."""
    return np.ones_like(signal.valid_r)


def summand(student: Tensor, teacher: Tensor, params: SkewKlParams) -> Tensor:
    skew = plain(params.skew)
    if params.direction == "reverse":
        return student.exp() * (student - log_mixture(teacher, student, 1 - skew))
    return weighted_log(teacher, lambda log_q: log_q - log_mixture(teacher, student, skew))


def loss(rows: TermRows, params: SkewKlParams) -> Tensor:
    """Nats of each row."""
    return total(rows, summand, params)
