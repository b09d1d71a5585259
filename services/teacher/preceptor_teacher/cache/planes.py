"""Rows of a reply cut and joined as bytes: no value is decoded, so none can change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preceptor.codec import Grade
from preceptor.codec.affine import CLIPPED, affine_error_bound
from preceptor.codec.half import F16_MAX, half_error_bound
from preceptor.wire.rows import GradeCost
from preceptor_proto.v1 import common_pb2

COLUMNS = ("validity", "sampled_f32le", "entropy_f32le", "tail_f32le")
LISTS = ("topk", "candidates", "samples")
PER_ROW = ("bases_f16le", "steps_f16le")
PER_ENTRY = ("values", "ids_low_u16le", "ids_high_u8")

Offsets = NDArray[np.uint32] | None


def carries_offsets(rows: common_pb2.Rows) -> bool:
    """True for ragged lists that say themselves where their rows end; the others are cut by the request's lists."""
    return bool(rows.candidates.offsets_u32le)


def cut_rows(rows: common_pb2.Rows, start: int, end: int, offsets: Offsets) -> common_pb2.Rows:
    """Rows start .. end - 1 of a reply; `offsets` are those of all candidates that the reply answers."""
    first, stop, count = start - rows.start, end - rows.start, rows.count
    part = common_pb2.Rows(start=start, count=stop - first, has_next=rows.has_next and stop == count)
    for column in COLUMNS:
        setattr(part, column, _of_rows(getattr(rows, column), count, first, stop))
    for name in LISTS:
        if rows.HasField(name):
            _cut_list(getattr(rows, name), getattr(part, name), count, (first, stop), offsets if name == "candidates" else None)
    if rows.HasField("hidden"):
        part.hidden.CopyFrom(rows.hidden)
        part.hidden.values = _of_rows(rows.hidden.values, count, first, stop)
    return part


def join_rows(parts: Sequence[common_pb2.Rows]) -> common_pb2.Rows:
    """Consecutive parts of one reply as one."""
    whole = common_pb2.Rows()
    whole.CopyFrom(parts[0])
    if len(parts) == 1:
        return whole
    whole.count = sum(part.count for part in parts)
    whole.has_next = parts[-1].has_next
    for column in COLUMNS:
        setattr(whole, column, b"".join(getattr(part, column) for part in parts))
    for name in LISTS:
        if whole.HasField(name):
            for plane in (*PER_ROW, *PER_ENTRY):
                setattr(getattr(whole, name), plane, b"".join(getattr(getattr(part, name), plane) for part in parts))
    if whole.HasField("hidden"):
        whole.hidden.values = b"".join(part.hidden.values for part in parts)
    return whole


def grade_cost(rows: common_pb2.Rows) -> GradeCost:
    """What the grade cost these rows, read off the rows. An f16 that is stored at its floor counts as clipped to it."""
    lists: list[common_pb2.Payload] = [getattr(rows, name) for name in LISTS if rows.HasField(name)]
    costs = [_cost(payload) for payload in lists]
    return GradeCost(max((cost.error_bound_nats for cost in costs), default=0.0), sum(cost.clipped_low for cost in costs))


def _cost(payload: common_pb2.Payload) -> GradeCost:
    match Grade(payload.grade):
        case Grade.F32:
            return GradeCost(0.0, 0)
        case Grade.F16:
            stored = np.frombuffer(payload.values, "<f2").astype(np.float16, copy=False)
            return GradeCost(half_error_bound(stored), int(np.count_nonzero(stored == np.float16(-F16_MAX))))
        case Grade.U8:
            bases, steps = (np.frombuffer(getattr(payload, name), "<f2").astype(np.float16, copy=False) for name in PER_ROW)
            return GradeCost(affine_error_bound(bases, steps), payload.values.count(CLIPPED))


def _cut_list(whole: common_pb2.Payload, part: common_pb2.Payload, count: int, rows: tuple[int, int], offsets: Offsets) -> None:
    part.grade, part.width = whole.grade, whole.width
    for plane in PER_ROW:
        setattr(part, plane, _of_rows(getattr(whole, plane), count, *rows))
    for plane in PER_ENTRY:
        data = getattr(whole, plane)
        if offsets is None:
            setattr(part, plane, _of_rows(data, count, *rows))
        else:
            first, stop = int(offsets[rows[0]]), int(offsets[rows[1]])
            setattr(part, plane, _of_rows(data, int(offsets[-1]), first, stop))


def _of_rows(plane: bytes, count: int, first: int, stop: int) -> bytes:
    """Entries first .. stop - 1 of a plane of `count` equal entries; an absent plane stays absent."""
    size = len(plane) // max(count, 1)
    return plane[first * size : stop * size]
