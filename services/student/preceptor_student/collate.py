"""From the columns of several sequences to the flat rows that the maths of an op works on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.batch import Item
from preceptor_student.objectives.rows import Support, TermRows
from preceptor_student.objectives.signals import SupportColumns
from preceptor_student.objectives.student import Asked, StudentRows
from preceptor_student.terms import TermItem

Pair = tuple[Item, TermItem]


def asked_of(pairs: Sequence[Pair], kind: Tensor) -> tuple[Asked, Support | None]:
    """What one term reads of the student in one micro-batch, and its support; `kind` gives dtype and device."""
    supports = [_rows_of(one.signal.support, one.rows) for _, one in pairs if one.signal.support is not None]
    support = _support(supports, kind) if supports else None
    targets_n = torch.from_numpy(np.concatenate([item.targets_r[one.rows] for item, one in pairs])).to(kind.device)
    if support is None:
        return Asked(targets_n), None
    top = int(support.top_ns.sum(1).max()) if len(targets_n) else 0
    return Asked(targets_n, support.ids_ns, support.present_ns, support.teacher_tail_n is not None, top), support


def term_rows(student: StudentRows, asked: Asked, support: Support | None, pairs: Sequence[Pair]) -> TermRows:
    """The rows of one term in one micro-batch, in the order of its items."""
    kind = student.sampled_n

    def column(parts: list[NDArray[np.float32]]) -> Tensor | None:
        return torch.from_numpy(np.concatenate(parts)).to(kind) if parts else None

    sampled = [one.signal.sampled_r[one.rows] for _, one in pairs if one.signal.sampled_r is not None]
    sequence = np.concatenate([np.full(len(one.rows), one.sequence_value, np.float32) for _, one in pairs])
    return TermRows(student, asked.targets_n, column(sampled), support, torch.from_numpy(sequence).to(kind))


def _rows_of(columns: SupportColumns, rows: NDArray[np.int64]) -> SupportColumns:
    tail = None if columns.tail_r is None else columns.tail_r[rows]
    return SupportColumns(columns.ids_rs[rows], columns.there_rs[rows], columns.teacher_rs[rows], columns.top_rs[rows], tail)


def _support(parts: Sequence[SupportColumns], kind: Tensor) -> Support:
    width = max(part.ids_rs.shape[1] for part in parts)

    def wide(arrays: list[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in arrays])).to(kind.device)

    tails = [part.tail_r for part in parts if part.tail_r is not None]
    return Support(
        ids_ns=wide([part.ids_rs for part in parts]),
        present_ns=wide([part.there_rs for part in parts]),
        teacher_ns=wide([part.teacher_rs for part in parts]).to(kind),
        teacher_tail_n=torch.from_numpy(np.concatenate(tails)).to(kind) if tails else None,
        top_ns=wide([part.top_rs for part in parts]),
    )
