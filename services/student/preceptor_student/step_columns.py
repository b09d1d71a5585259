"""Rewards of steps as they arrive, spread over the rows of each step."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument
from preceptor_proto.v1 import student_pb2


def steps_of(part: student_pb2.TeacherScores, rows: int, where: str) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """(the reward of each row's step, NaN where there is none; which step that is), or None where nobody judged steps."""
    if not part.step_rewards_f32le and not part.step_rows_u32le:
        return None
    if len(part.step_rewards_f32le) % 4 or len(part.step_rewards_f32le) != len(part.step_rows_u32le):
        _refuse(where, f"{len(part.step_rewards_f32le)} and {len(part.step_rows_u32le)} bytes", "4 bytes a step in both")
    rewards_s = np.frombuffer(part.step_rewards_f32le, "<f4").astype(np.float32)
    ends_s = np.frombuffer(part.step_rows_u32le, "<u4").astype(np.int64)
    if (np.diff(ends_s, prepend=0) < 0).any() or ends_s[-1] > rows:
        _refuse(where, f"steps up to row {ends_s.max()}", f"ascending, at most {rows}")
    if np.isinf(rewards_s).any():
        _refuse(where, "an infinite reward", "a finite number, or NaN where there is none")
    step_r = np.searchsorted(ends_s, np.arange(rows), side="right")
    return np.append(rewards_s, np.float32(np.nan))[step_r], step_r.astype(np.int64)


def _refuse(where: str, value: str, limit: str) -> NoReturn:
    field = f"{where}.step_rows_u32le"
    raise InvalidArgument(f"{field}: {value}, not rewards of steps", field=field, value=value, limit=limit)
