"""What the rows of one readout ask for, on the device: sent there once, before the first chunk.

Shapes: n rows, e candidates of all rows, d draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.philox import teacher_uniform
from preceptor_teacher.readout.spec import RowSpec
from preceptor_teacher.readout.transfer import to_device

DRAWN_AT_ONCE = 1 << 16  # a number takes many times its size while it is made


@dataclass(frozen=True, slots=True)
class Lists:
    """Candidates, ragged. Where a row's list begins is known to the host, so that no length has to be asked of the device."""

    offsets: NDArray[np.int64]
    counts_n: Tensor
    ids_e: Tensor

    def entries(self, part: slice) -> slice:
        """Where the lists of these rows stand in the flat list."""
        return slice(int(self.offsets[part.start]), int(self.offsets[part.stop]))

    def read(self, part: slice) -> tuple[Tensor, Tensor]:
        """(row in the part, id) of each of their candidates."""
        where, counts = self.entries(part), self.counts_n[part]
        rows = torch.arange(len(counts), device=counts.device)
        return rows.repeat_interleave(counts, output_size=where.stop - where.start), self.ids_e[where].long()


@dataclass(frozen=True, slots=True)
class Asked:
    """None where nothing of the kind is wanted."""

    targets_n: Tensor | None
    lists: Lists | None
    uniform_nd: Tensor | None

    @classmethod
    def of(cls, spec: RowSpec, device: torch.device) -> Asked:
        targets = to_device(spec.targets, device) if spec.signals.sampled else None
        return cls(targets, _lists(spec, device), to_device(_uniform(spec), device) if spec.signals.samples else None)


def _lists(spec: RowSpec, device: torch.device) -> Lists | None:
    if spec.candidates is None:
        return None
    offsets = spec.candidates.offsets.astype(np.int64)
    return Lists(offsets, to_device(np.diff(offsets), device), to_device(spec.candidates.ids.astype(np.int32), device))


def _uniform(spec: RowSpec) -> NDArray[np.float64]:
    assert spec.seeds is not None, "samples need seeds"
    assert spec.rows is not None, "samples need row indices"
    draws = spec.signals.samples
    uniform, step = np.empty((len(spec), draws)), max(1, DRAWN_AT_ONCE // draws)
    for start in range(0, len(spec), step):
        part = slice(start, start + step)
        uniform[part] = teacher_uniform(spec.seeds[part], spec.rows[part], draws)
    return uniform
