"""What all divergences share: a summand for each bucket, cut off or summed as it is, and the correction of the tail by the draw.

A summand d(log p, log q) of student p and teacher q is finite wherever its divergence is, and zero at p = q.
Shapes: n rows, b buckets (support and tail).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.rows import Buckets, TermRows, buckets
from preceptor_student.objectives.signals import Mask, Signal

Summand = Callable[[Tensor, Tensor, Any], Tensor]
"""(log p, log q, params) -> what one bucket adds. log q may be -inf, log p may not."""


def total(rows: TermRows, summand: Summand, params: DivergenceParams) -> Tensor:
    """Nats of each row."""
    loss_n = over_buckets(buckets(rows), summand, params)
    return loss_n + tail_correction(rows, summand, params) if params.unbiased else loss_n


def over_buckets(both: Buckets, summand: Summand, params: DivergenceParams) -> Tensor:
    """The sum of each row, cut off where the recipe says so."""
    summand_nb = summand(both.student_nb, both.teacher_nb, params)
    if params.entry_clamp is not None:
        summand_nb = summand_nb.clamp_max(plain(params.entry_clamp))
    loss_n = both.total(summand_nb)
    return loss_n if params.row_clamp is None else loss_n.clamp_max(plain(params.row_clamp))


def tail_correction(rows: TermRows, summand: Summand, params: Any) -> Tensor:
    """What the token drawn apart adds, so that support and tail bucket have the mean of the divergence over all tokens.

    A divergence is the sum over tokens of d(log p, log q), with the gradient sum of r * dp for r = d d / dp. The bucket's share
    of it is that of its mean ratio: value v_tail = d / p and rate r_tail of the bucket. A token y drawn from p falls outside the
    support with its own probability, so value (v_y - v_tail) and gradient (r_y - r_tail) * d log p_y, counted only there, have
    exactly the missing mean; the bucket is the control variate, and where tokens of the tail are alike, nothing is left to vary.
    """
    assert rows.teacher_sampled_n is not None, "what is drawn apart is scored"
    assert rows.support is not None, "divergences read supports"
    assert rows.support.teacher_tail_n is not None, "what is drawn apart corrects a tail"
    own_n, zero = rows.student.sampled_n, torch.zeros_like(rows.student.sampled_n)
    outside_n = drawn_outside(rows)
    value_n, rate_n = _value_and_rate(
        own_n.where(outside_n, zero), rows.teacher_sampled_n.where(outside_n, zero), summand, params
    )
    tail_n, teacher_tail_n = (x.where(outside_n, zero) for x in (rows.student.tail_n, rows.support.teacher_tail_n))
    tail_value_n, tail_rate_n = _value_and_rate(tail_n, teacher_tail_n, summand, params)
    moving_n = (rate_n - tail_rate_n) * own_n
    return (value_n - tail_value_n + moving_n - moving_n.detach()).where(outside_n, zero)


def drawn_outside(rows: TermRows) -> Tensor:
    """Rows whose drawn token is not of the support."""
    assert rows.support is not None, "divergences read supports"
    inside_n = (rows.support.present_ns & (rows.support.ids_ns == rows.targets_n[:, None])).any(1)
    return ~inside_n & rows.student.open_n


@torch.no_grad()
def _value_and_rate(student_n: Tensor, teacher_n: Tensor, summand: Summand, params: Any) -> tuple[Tensor, Tensor]:
    """(d / p, derivative of d by p) of each entry, as numbers."""
    log_p_n = student_n.clone().requires_grad_()
    with torch.enable_grad():
        d_n = summand(log_p_n, teacher_n, params)
        (by_log_p_n,) = torch.autograd.grad(d_n.sum(), log_p_n)
    per_p_n = (-student_n).exp()
    return d_n * per_p_n, by_log_p_n * per_p_n


def log_mixture(teacher: Tensor, student: Tensor, share: float) -> Tensor:
    """log(share * q + (1 - share) * p), exactly log p where both sides agree. No exponent is ever positive."""
    below = teacher <= student
    higher, lower = torch.where(below, student, teacher), torch.where(below, teacher, student)
    of_lower = torch.where(below, student.new_full((), share), student.new_full((), 1 - share))
    return higher + (of_lower * (lower - higher).expm1()).log1p()


def weighted_log(teacher: Tensor, difference: Callable[[Tensor], Tensor]) -> Tensor:
    """q * difference(log q), and zero where q is, with a gradient of zero there."""
    log_q = teacher.clamp_min(torch.finfo(teacher.dtype).min)  # its exponential is zero, and zero times it is too
    return log_q.exp() * difference(log_q)


def finite_where_teacher_is(signal: Signal, head_rows: int) -> Mask:
    """Rows on which the teacher gives no token that the student can reach probability zero."""
    support = signal.support
    if support is None:  # hidden states: a softmax gives no token zero
        return np.ones_like(signal.valid_r)
    zero_r = np.asarray((np.isneginf(support.teacher_rs) & support.there_rs).any(axis=1))
    if support.tail_r is not None:
        zero_r |= np.isneginf(support.tail_r) & (support.there_rs.sum(axis=1) < head_rows)
    if support.apart and signal.sampled_r is not None:
        zero_r |= np.isneginf(signal.sampled_r)
    return ~zero_r
