"""What a step looked like, beside its loss: sums over rows that add up across micro-batches to means over the step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from preceptor_student.batch import Item
from preceptor_student.objectives import reverse_kl
from preceptor_student.objectives.divergence import drawn_outside, tail_correction
from preceptor_student.objectives.rows import Support, TermRows, bucket_entropy, buckets


class Means:
    """Sums and counts by name."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._squares: dict[str, float] = {}

    def add(self, name: str, total: float, count: int) -> None:
        self._sums[name] += total
        self._counts[name] += count

    def add_rows(self, name: str, values_n: Tensor) -> None:
        """One number a row."""
        self.add(name, float(values_n.double().sum()), len(values_n))

    def add_estimates(self, name: str, values_n: Tensor) -> None:
        """One unbiased estimate a row: beside the mean, `NAME_variance` and `NAME_error`, the standard error of the mean."""
        self.add_rows(name, values_n)
        self._squares[name] = self._squares.get(name, 0.0) + float(values_n.double().square().sum())

    def plain(self) -> list[dict[str, float]]:
        """Sums, counts and squares, as JSON has them."""
        return [dict(self._sums), dict(self._counts), dict(self._squares)]

    def add_plain(self, plain: Sequence[Mapping[str, float]]) -> None:
        """What `plain` gave of others is added to this."""
        sums, counts, squares = plain
        for name, count in counts.items():
            self.add(name, sums[name], int(count))
        for name, square in squares.items():
            self._squares[name] = self._squares.get(name, 0.0) + square

    def means(self) -> dict[str, float]:
        """Name -> mean, for everything that was counted at least once."""
        means = {name: self._sums[name] / count for name, count in self._counts.items() if count}
        for name, square in self._squares.items():
            count = self._counts[name]
            if count > 1:
                variance = max(square / count - means[name] ** 2, 0.0) * count / (count - 1)
                means |= {f"{name}_variance": variance, f"{name}_error": math.sqrt(variance / count)}
        return means


@torch.no_grad()
def watch_rows(rows: TermRows, means: Means) -> None:
    """What the signal of a term gives, see docs/objectives.md. Rows of infinite divergence are left out of `reverse_kl`."""
    means.add_rows("student_entropy", rows.student.observed.entropy_n)
    if (compared := rows.student.compared) is not None:
        means.add_rows("reverse_kl", compared.reverse_kl_n[compared.reverse_kl_n.isfinite()])
        means.add_rows("entropy_gap", compared.entropy_gap_n)
    elif rows.support is not None and rows.support.teacher_tail_n is not None:
        _watch_support(rows, rows.support, rows.support.teacher_tail_n, means)
    elif rows.teacher_sampled_n is not None:
        means.add_rows("reverse_kl", rows.student_sampled_n() - rows.teacher_sampled_n)


def _watch_support(rows: TermRows, support: Support, teacher_tail_n: Tensor, means: Means) -> None:
    kl_n = reverse_kl.loss(rows, reverse_kl.EXACT)
    means.add_rows("reverse_kl", kl_n[kl_n.isfinite()])
    student_tail_n = rows.student.tail_n.exp().where(rows.student.open_n, torch.zeros_like(kl_n))
    means.add_rows("student_tail_mass", student_tail_n)
    means.add_rows("teacher_tail_mass", teacher_tail_n.exp())
    both = buckets(rows)
    means.add_rows("entropy_gap", bucket_entropy(both, both.student_nb) - bucket_entropy(both, both.teacher_nb))
    _watch_overlap(rows, support, means)
    if support.apart:
        _watch_tail(rows, means)


def _watch_overlap(rows: TermRows, support: Support, means: Means) -> None:
    """Of the teacher's top tokens, those that are among the student's: their share, and how the teacher wants them moved."""
    top = int(support.top_ns.sum())
    if not top:
        return
    shared_ns = (support.ids_ns[:, :, None] == rows.student.observed.top_ids_nk[:, None, :]).any(2) & support.top_ns
    means.add("topk_overlap", float(shared_ns.sum()), top)
    counted_ns = shared_ns & support.present_ns & (support.teacher_ns > -torch.inf)
    student_ns = rows.student.listed_ns
    advantage_ns = student_ns.exp() * (support.teacher_ns - student_ns)
    means.add("overlap_advantage", float(advantage_ns[counted_ns].double().sum()), int(counted_ns.sum()))


def _watch_tail(rows: TermRows, means: Means) -> None:
    """What the tail bucket hides: the estimated difference between the reverse KL over all tokens and that over the buckets."""
    correction_n = tail_correction(rows, reverse_kl.summand, reverse_kl.EXACT)
    means.add_estimates("tail_bias", correction_n[correction_n.isfinite()])
    means.add_rows("drawn_outside", drawn_outside(rows).float())


def item_means(items: Sequence[Item]) -> dict[str, float]:
    """Length and truncation of a step's rollouts."""
    return {
        "mean_response_tokens": sum(item.row_count for item in items) / len(items),
        "truncation_rate": sum(item.truncated for item in items) / len(items),
    }
