"""What one teacher said of one sequence, as columns over its response rows, and what a signal makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    entropy_r: F32 | None = None
    hidden_rh: F32 | None = None
    head_sha256: bytes = b""  # of the head that turns `hidden_rh` into scores
    step_reward_r: F32 | None = None  # of each row's step, NaN where it has none; None: nobody judged steps
    step_r: NDArray[np.int64] | None = None  # which step a row belongs to


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the rollout logged when it was drawn; a column that it did not log is None, a number that is missing NaN."""

    policy_r: F32 | None = None
    behaviour_r: F32 | None = None
    newest_step: int | None = None  # of the weights that drew its tokens

    def column(self, name: Literal["policy", "behaviour"], rows: int) -> F32:
        """One number a row, NaN where it is missing."""
        found = self.policy_r if name == "policy" else self.behaviour_r
        return np.full(rows, np.nan, np.float32) if found is None else found


@dataclass(frozen=True, slots=True)
class SupportColumns:
    """The support of each row: the entries that are `there`; the teacher's numbers of the others are zero.

    `top_rs` marks the teacher's most likely tokens, whether they are members or not. `apart`: the drawn token is scored, and
    is a member only where a list holds it.
    """

    ids_rs: NDArray[np.int64]
    there_rs: Mask
    teacher_rs: F32
    top_rs: Mask
    tail_r: F32 | None
    renormalise: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """What a signal gives for one sequence, and which of its rows are complete."""

    valid_r: Mask
    sampled_r: F32 | None = None
    support: SupportColumns | None = None
    reward: float | None = None
    entropy_r: F32 | None = None
    hidden_rh: F32 | None = None
    head_sha256: bytes = b""
    step_reward_r: F32 | None = None
    step_r: NDArray[np.int64] | None = None
