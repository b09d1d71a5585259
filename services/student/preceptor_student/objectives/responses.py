"""Rows of several responses as a table with one response a line."""

from __future__ import annotations

import torch
from torch import Tensor

from preceptor_student.objectives.rows import TermRows


def by_response(rows: TermRows, value_n: Tensor, fill: float) -> Tensor:
    """[responses, rows] in float64; rows of a response that are not there hold `fill`."""
    owner_n, row_n = places(rows)
    table = torch.full((int(owner_n.max()) + 1, int(row_n.max()) + 1), fill, dtype=torch.float64, device=value_n.device)
    table[owner_n, row_n] = value_n.double()
    return table


def counted(rows: TermRows, value_n: Tensor, fill: float) -> Tensor:
    """The same of the rows that count; the others hold `fill` too."""
    assert rows.counts_n is not None, "collate says which rows count"
    return by_response(rows, value_n.where(rows.counts_n, fill), fill)


def share_of_largest(rows: TermRows, value_n: Tensor) -> tuple[Tensor, Tensor]:
    """Each value over the largest of the rows of its response that count, and whether that is positive."""
    largest_n = counted(rows, value_n, -torch.inf).amax(1)[places(rows)[0]].to(value_n)
    return value_n / largest_n, largest_n > 0


def places(rows: TermRows) -> tuple[Tensor, Tensor]:
    """(which response of the micro-batch, which row of it) of each row."""
    assert rows.owner_n is not None, "collate says whose row each is"
    assert rows.row_n is not None, "collate says which row it is"
    return rows.owner_n, rows.row_n
