"""(1 - sum of q^alpha * p^(1 - alpha)) / (alpha * (1 - alpha)) of teacher q and student p.

Each bucket adds (alpha q + (1 - alpha) p - q^alpha p^(1 - alpha)) / (alpha (1 - alpha)), which is never negative. Written with
u = log q - log p in expm1, so that neither end of the range divides a difference of nearly equal numbers by nearly zero. Where
q < p it is p times a function of u, elsewhere q times one of -u: no exponent is ever positive, and the other product is zero.
"""

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.alpha_divergence import AlphaDivergenceParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.divergence import total
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row: a zero of the teacher's adds student / alpha."""
    return np.ones_like(signal.valid_r)


def summand(student: Tensor, teacher: Tensor, params: AlphaDivergenceParams) -> Tensor:
    alpha, p = plain(params.alpha), student.exp()
    possible = teacher > -torch.inf
    log_q = teacher.where(possible, student)
    u = log_q - student
    where_possible = p * _excess(u.clamp_max(0), alpha) + log_q.exp() * _excess((-u).clamp_max(0), 1 - alpha)
    return torch.where(possible, where_possible, p / alpha)


def _excess(u: Tensor, alpha: float) -> Tensor:
    """(expm1(alpha u) - alpha expm1(u)) / (alpha (alpha - 1)) for u <= 0, also at and near alpha = 0 and 1."""
    if alpha < 0.5:
        return (_slope(u, alpha) - u.expm1()) / (alpha - 1)
    return (u.exp() * _slope(u, alpha - 1) - u.expm1()) / alpha


def _slope(u: Tensor, rate: float) -> Tensor:
    """expm1(rate * u) / rate, and its limit u."""
    return (rate * u).expm1() / rate if rate else u


def loss(rows: TermRows, params: AlphaDivergenceParams) -> Tensor:
    """Nats of each row."""
    return total(rows, summand, params)
