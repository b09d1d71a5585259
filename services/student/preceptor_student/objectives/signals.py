"""What one teacher said of one sequence, as columns over its response rows, and what a signal makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Columns over rows 0 .. R - 1. `ok_r` is false where the teacher gave no valid row; what was not asked for is None."""

    ok_r: Mask
    targets_r: NDArray[np.int64]
    sampled_r: F32 | None = None
    topk_ids_rk: NDArray[np.int64] | None = None
    topk_rk: F32 | None = None
    listed_ids_rc: NDArray[np.int64] | None = None  # candidates, padded to one width
    listed_rc: F32 | None = None
    listed_there_rc: Mask | None = None
    tail_r: F32 | None = None
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class SupportColumns:
    """The support of each row; entries that are not `there` hold zeros."""

    ids_rs: NDArray[np.int64]
    there_rs: Mask
    teacher_rs: F32
    top_rs: Mask
    tail_r: F32 | None


@dataclass(frozen=True, slots=True)
class Signal:
    """What a signal gives for one sequence, and which of its rows are complete."""

    valid_r: Mask
    sampled_r: F32 | None = None
    support: SupportColumns | None = None
    reward: float | None = None
