"""What a step looked like, beside its loss: sums over rows that add up across micro-batches to means over the step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.batch import Item
from preceptor_student.objectives import reverse_kl
from preceptor_student.objectives.rows import Support, TermRows


class Means:
    """Sums and counts by name."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, name: str, total: float, count: int) -> None:
        self._sums[name] += total
        self._counts[name] += count

    def means(self) -> dict[str, float]:
        """Name -> mean, for everything that was counted at least once."""
        return {name: self._sums[name] / count for name, count in self._counts.items() if count}


@torch.no_grad()
def watch_rows(rows: TermRows, means: Means) -> None:
    """reverse_kl, topk_overlap and tail masses, where the signal has them. Rows of infinite divergence are left out."""
    count = len(rows.targets_n)
    if rows.support is not None and rows.support.teacher_tail_n is not None:
        _watch_support(rows, rows.support, rows.support.teacher_tail_n, means)
    elif rows.teacher_sampled_n is not None:
        means.add("reverse_kl", float((rows.student_sampled_n() - rows.teacher_sampled_n).double().sum()), count)


def _watch_support(rows: TermRows, support: Support, teacher_tail_n: torch.Tensor, means: Means) -> None:
    kl_n = reverse_kl.loss(rows, NoParams()).double()
    finite_n = kl_n.isfinite()
    means.add("reverse_kl", float(kl_n[finite_n].sum()), int(finite_n.sum()))
    tail_n, open_n = rows.student.tail_n, rows.student.open_n
    means.add("student_tail_mass", float(tail_n.double().exp()[open_n].sum()), len(tail_n))
    means.add("teacher_tail_mass", float(teacher_tail_n.double().exp().sum()), len(tail_n))
    ids_nk = rows.student.observed.top_ids_nk
    shared_ns = (support.ids_ns[:, :, None] == ids_nk[:, None, :]).any(2) & support.top_ns
    means.add("topk_overlap", float(shared_ns.sum()), int(support.top_ns.sum()))


def item_means(items: Sequence[Item]) -> dict[str, float]:
    """Length and truncation of a step's rollouts."""
    return {
        "mean_response_tokens": sum(item.row_count for item in items) / len(items),
        "truncation_rate": sum(item.truncated for item in items) / len(items),
    }
