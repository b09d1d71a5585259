"""Quantities of a row that gates and weights go by, detached; the names are those of `recipes.ops.quantities`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.quantities import FactorWithin, OfQuantity
from preceptor.recipes.schedules import plain
from preceptor_student.objectives import reverse_kl
from preceptor_student.objectives.kinds import Facts
from preceptor_student.objectives.rows import TermRows, buckets
from preceptor_student.objectives.signals import Mask


def quantity_n(name: str, rows: TermRows) -> Tensor:
    """The quantity of each row."""
    return QUANTITIES[name](rows).detach()


def usable(facts: Facts, params: OfQuantity) -> Mask:
    """Rows on which the quantity is finite."""
    if params.of in ("teacher_surprisal", "log_ratio"):
        assert facts.signal.sampled_r is not None, "the linter gives them the sampled signal"
        return ~np.isneginf(facts.signal.sampled_r)
    if params.of == "divergence":
        return reverse_kl.usable(facts.signal, facts.head_rows)
    return np.ones_like(facts.signal.valid_r)


def factor_n(rows: TermRows, params: FactorWithin) -> Tensor:
    """`inside` where the quantity lies within the bounds, `outside` elsewhere."""
    value_n = quantity_n(params.of, rows)
    inside_n = torch.ones_like(value_n, dtype=torch.bool)
    if params.at_least is not None:
        inside_n &= value_n >= plain(params.at_least)
    if params.at_most is not None:
        inside_n &= value_n <= plain(params.at_most)
    return torch.where(inside_n, plain(params.inside), plain(params.outside)).to(value_n)


def divergence_n(rows: TermRows) -> Tensor:
    """KL(student || teacher) on support and tail."""
    both = buckets(rows)
    return both.total(both.student_nb.exp() * (both.student_nb - both.teacher_nb))


def _sampled(rows: TermRows) -> Tensor:
    assert rows.teacher_sampled_n is not None, "the linter gives it the sampled signal"
    return rows.teacher_sampled_n


def _entropy(rows: TermRows) -> Tensor:
    assert rows.teacher_entropy_n is not None, "the linter gives it the entropy signal"
    return rows.teacher_entropy_n


def _overlap(rows: TermRows) -> Tensor:
    assert rows.support is not None, "the linter gives it a support"
    top_ns = rows.support.top_ns
    shared_ns = (rows.support.ids_ns[:, :, None] == rows.student.observed.top_ids_nk[:, None, :]).any(2) & top_ns
    return shared_ns.sum(1).to(rows.student.sampled_n) / top_ns.sum(1)


QUANTITIES: dict[str, Callable[[TermRows], Tensor]] = {
    "student_entropy": lambda rows: rows.student.observed.entropy_n,
    "student_surprisal": lambda rows: -rows.student_sampled_n(),
    "teacher_entropy": _entropy,
    "teacher_surprisal": lambda rows: -_sampled(rows),
    "log_ratio": lambda rows: _sampled(rows) - rows.student_sampled_n(),
    "divergence": divergence_n,
    "overlap": _overlap,
}
"""Quantity -> how it is computed."""
