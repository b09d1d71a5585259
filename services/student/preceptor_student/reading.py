"""One pass over the head for all terms of a micro-batch: each term gets the student's rows that it asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.chunked import read_chunked
from preceptor_student.full import Whole
from preceptor_student.head import Head
from preceptor_student.objectives.student import Asked, Compared, Observed, StudentRows, look_up, observe, open_rows

CARRYING, OBSERVED = 3, 3  # outputs of `look_up`, fields of `Observed`
FACTS = 3  # outputs of `Whole.facts`


@dataclass(frozen=True, slots=True)
class Lookup:
    """What one term reads: `asked` of the states at `rows`, which ascend."""

    rows: NDArray[np.int64]
    asked: Asked
    whole: Whole | None = None  # what compares every token of these rows

    @property
    def carrying(self) -> int:
        """How many outputs have a gradient."""
        return CARRYING + (self.whole is not None)

    @property
    def observed(self) -> int:
        """How many have none."""
        return OBSERVED + (FACTS if self.whole else 0)


def read_student(states_nh: Tensor, head: Head, lookups: Sequence[Lookup], chunk_rows: int | None = None) -> list[StudentRows]:
    """The rows of each lookup, with gradient to states and head."""
    for whole in (lookup.whole for lookup in lookups if lookup.whole):
        whole.check(head.rows)
    reader = _LookupReader(lookups, head.rows)
    outputs = iter(read_chunked(states_nh, head, reader, chunk_rows))
    carrying = [list(islice(outputs, lookup.carrying)) for lookup in lookups]
    observed = [list(islice(outputs, lookup.observed)) for lookup in lookups]
    return [_student_rows(*one) for one in zip(carrying, observed, reader.open, strict=True)]


def _student_rows(carrying: Sequence[Tensor], observed: Sequence[Tensor], open_n: Tensor) -> StudentRows:
    (sampled_n, listed_ns, tail_n), nats = carrying[:CARRYING], carrying[CARRYING:]
    seen, facts = Observed(*observed[:OBSERVED]), observed[OBSERVED:]
    return StudentRows(sampled_n, listed_ns, tail_n, open_n, seen, Compared(*nats, *facts) if nats else None)


class _LookupReader:
    def __init__(self, lookups: Sequence[Lookup], head_rows: int) -> None:
        self._lookups = lookups
        self.open = [open_rows(lookup.asked, head_rows) for lookup in lookups]

    def sizes(self, count: int) -> list[int]:
        carrying = [len(lookup.rows) for lookup in self._lookups for _ in range(lookup.carrying)]
        return carrying + [len(lookup.rows) for lookup in self._lookups for _ in range(lookup.observed)]

    def differentiable(self, log_probs_nv: Tensor, rows: slice) -> list[Tensor]:
        outputs: list[Tensor] = []
        for lookup, open_n in zip(self._lookups, self.open, strict=True):
            taken_nv, part = _taken(log_probs_nv, lookup, rows)
            outputs += look_up(taken_nv, lookup.asked[part], open_n[part])
            if lookup.whole is not None:
                outputs.append(lookup.whole.nats(taken_nv, part))
        return outputs

    def observed(self, log_probs_nv: Tensor, rows: slice) -> list[Tensor]:
        outputs: list[Tensor] = []
        for lookup in self._lookups:
            taken_nv, part = _taken(log_probs_nv, lookup, rows)
            seen = observe(taken_nv, lookup.asked[part])
            outputs += (seen.entropy_n, seen.collision_n, seen.top_ids_nk)
            if lookup.whole is not None:
                outputs += lookup.whole.facts(taken_nv, part)
        return outputs


def _taken(log_probs_nv: Tensor, lookup: Lookup, rows: slice) -> tuple[Tensor, slice]:
    """The chunk's rows that a lookup reads, and where they stand among its own; the tensor itself where it reads all of them."""
    first, last = np.searchsorted(lookup.rows, (rows.start, rows.stop)).tolist()
    if last - first == len(log_probs_nv):
        return log_probs_nv, slice(first, last)
    wanted = torch.from_numpy(lookup.rows[first:last] - rows.start).to(log_probs_nv.device)
    return log_probs_nv[wanted], slice(first, last)
