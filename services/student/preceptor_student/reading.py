"""One pass over the head for all terms of a micro-batch: each term gets the student's rows that it asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.chunked import read_chunked
from preceptor_student.head import Head
from preceptor_student.objectives.student import Asked, Observed, StudentRows, look_up, observe, open_rows

CARRYING = 3  # outputs of `look_up`, and fields of `Observed`


@dataclass(frozen=True, slots=True)
class Lookup:
    """What one term reads: `asked` of the states at `rows`, which ascend."""

    rows: NDArray[np.int64]
    asked: Asked


def read_student(states_nh: Tensor, head: Head, lookups: Sequence[Lookup], chunk_rows: int | None = None) -> list[StudentRows]:
    """The rows of each lookup, with gradient to states and head."""
    reader = _LookupReader(lookups, head.rows)
    outputs = read_chunked(states_nh, head, reader, chunk_rows)
    middle = CARRYING * len(lookups)
    carrying, observed = _in_threes(outputs[:middle]), _in_threes(outputs[middle:])
    return [
        StudentRows(*three, open_n, Observed(*seen)) for three, open_n, seen in zip(carrying, reader.open, observed, strict=True)
    ]


def _in_threes(outputs: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(outputs[i], outputs[i + 1], outputs[i + 2]) for i in range(0, len(outputs), 3)]


class _LookupReader:
    def __init__(self, lookups: Sequence[Lookup], head_rows: int) -> None:
        self._lookups = lookups
        self.open = [open_rows(lookup.asked, head_rows) for lookup in lookups]

    def sizes(self, count: int) -> list[int]:
        lengths = [len(lookup.rows) for lookup in self._lookups for _ in range(CARRYING)]
        return lengths + lengths

    def differentiable(self, log_probs_nv: Tensor, rows: slice) -> list[Tensor]:
        outputs: list[Tensor] = []
        for lookup, open_n in zip(self._lookups, self.open, strict=True):
            taken_nv, part = _taken(log_probs_nv, lookup, rows)
            outputs += look_up(taken_nv, lookup.asked[part], open_n[part])
        return outputs

    def observed(self, log_probs_nv: Tensor, rows: slice) -> list[Tensor]:
        outputs: list[Tensor] = []
        for lookup in self._lookups:
            taken_nv, part = _taken(log_probs_nv, lookup, rows)
            seen = observe(taken_nv, lookup.asked[part])
            outputs += (seen.entropy_n, seen.collision_n, seen.top_ids_nk)
        return outputs


def _taken(log_probs_nv: Tensor, lookup: Lookup, rows: slice) -> tuple[Tensor, slice]:
    """The chunk's rows that a lookup reads, and where they stand among its own; the tensor itself where it reads all of them."""
    first, last = np.searchsorted(lookup.rows, (rows.start, rows.stop)).tolist()
    if last - first == len(log_probs_nv):
        return log_probs_nv, slice(first, last)
    wanted = torch.from_numpy(lookup.rows[first:last] - rows.start).to(log_probs_nv.device)
    return log_probs_nv[wanted], slice(first, last)
