"""From the columns of several sequences to the flat rows that the maths of an op works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.batch import Item
from preceptor_student.objectives.rows import Support, TermRows
from preceptor_student.objectives.signals import Mask, Signal, SupportColumns
from preceptor_student.objectives.student import Asked, StudentRows
from preceptor_student.terms import TermItem

Pair = tuple[Item, TermItem]


def asked_of(pairs: Sequence[Pair], kind: Tensor, use: int | None = None) -> tuple[Asked, Support | None]:
    """What one term reads of the student in one micro-batch, and its support; `kind` gives dtype and device.

    `use` asks for what one of the term's `row_uses` reads instead of the term's own signal.
    """
    signals = [_signal(one, use) for _, one in pairs]
    supports = [_rows_of(signal.support, one.rows) for signal, (_, one) in zip(signals, pairs, strict=True) if signal.support]
    support = _support(supports, kind) if supports else None
    targets_n = torch.from_numpy(np.concatenate([item.targets_r[one.rows] for item, one in pairs])).to(kind.device)
    if support is None:
        return Asked(targets_n), None
    top = int(support.top_ns.sum(1).max()) if len(targets_n) else 0
    return Asked(targets_n, support.ids_ns, support.present_ns, support.teacher_tail_n is not None, top), support


def term_rows(
    student: StudentRows, asked: Asked, support: Support | None, pairs: Sequence[Pair], use: int | None = None
) -> TermRows:
    """The rows of one term in one micro-batch, in the order of its items, as the term or one of its `row_uses` reads them."""
    kind, rows = student.sampled_n, [one.rows for _, one in pairs]
    signals = [_signal(one, use) for _, one in pairs]
    drawn = [item.drawn for item, _ in pairs]

    def column(parts: Sequence[NDArray[Any] | None]) -> Tensor | None:
        """The rows of every part; None where one lacks the column."""
        there = [part[taken] for part, taken in zip(parts, rows, strict=True) if part is not None]
        return torch.from_numpy(np.concatenate(there)).to(kind) if len(there) == len(parts) else None

    return TermRows(
        student,
        asked.targets_n,
        column([signal.sampled_r for signal in signals]),
        support,
        compared_n=None if use is None else column([one.values[use] for _, one in pairs]),
        teacher_entropy_n=column([signal.entropy_r for signal in signals]),
        step_reward_n=column([signal.step_reward_r for signal in signals]),
        step_n=column([signal.step_r for signal in signals]),
        drawn_policy_n=column([one.policy_r for one in drawn]),
        drawn_behaviour_n=column([one.behaviour_r for one in drawn]),
        owner_n=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(one) for one in rows])).to(kind.device),
        row_n=torch.from_numpy(np.concatenate(rows)).to(kind.device),
        counts_n=torch.from_numpy(np.concatenate([_counts(one) for _, one in pairs])).to(kind.device),
    )


def _signal(one: TermItem, use: int | None) -> Signal:
    return one.signal if use is None else one.uses[use]


def _counts(one: TermItem) -> Mask:
    return np.ones(len(one.rows), bool) if one.counts is None else one.counts


def _rows_of(columns: SupportColumns, rows: NDArray[np.int64]) -> SupportColumns:
    tail = None if columns.tail_r is None else columns.tail_r[rows]
    members = columns.ids_rs[rows], columns.there_rs[rows], columns.teacher_rs[rows], columns.top_rs[rows]
    return SupportColumns(*members, tail, columns.renormalise, columns.apart)


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
        renormalise=parts[0].renormalise,
        apart=parts[0].apart,
    )
