"""What is wanted of each row, as arrays: rows of different sequences share one readout when they want the same signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.types import RaggedIds, TailOf

NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class Signals:
    """The same for all rows of one readout."""

    sampled: bool = False
    topk: int = 0
    entropy: bool = False
    tail: TailOf = TailOf.NONE
    samples: int = 0
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class RowSpec:
    """One entry a row: its target (`NO_TARGET`: none), and the seed and row index that key its draws."""

    signals: Signals
    targets: NDArray[np.int64]
    candidates: RaggedIds | None = None
    seeds: NDArray[np.uint64] | None = None
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.targets)
