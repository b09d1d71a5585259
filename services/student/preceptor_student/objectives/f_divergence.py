"""Half the sum of |p - q|, of (sqrt p - sqrt q)^2, or of (p - q)^2 / (p + q): differences of probabilities, not of logarithms.

They are bounded and defined at every zero, and their gradient on a token vanishes with the student's probability of it.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.f_divergence import FDivergenceParams
from preceptor_student.objectives.divergence import total
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: the divergences are bounded."""
    return np.ones_like(signal.valid_r)


def summand(student: Tensor, teacher: Tensor, params: FDivergenceParams) -> Tensor:
    return GENERATORS[params.generator](student, teacher) / 2


GENERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "total_variation": lambda student, teacher: (student.exp() - teacher.exp()).abs(),
    "squared_hellinger": lambda student, teacher: ((student / 2).exp() - (teacher / 2).exp()).square(),
    "triangular": lambda student, teacher: (student.exp() - teacher.exp()) * ((student - teacher) / 2).tanh(),
}
"""Name -> twice what one bucket adds; (p - q) / (p + q) is the tanh of half the log-ratio."""


def loss(rows: TermRows, params: FDivergenceParams) -> Tensor:
    """Of each row, between 0 and 1."""
    return total(rows, summand, params)
