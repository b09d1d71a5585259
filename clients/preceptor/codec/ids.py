"""Token ids beside their log-probabilities: a u16 low plane, and a u8 high plane for heads of more than 65,536 rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.layout import layout_from
from preceptor.codec.planes import U32, Plane, frozen, read_plane, write_plane
from preceptor.errors import Corrupt, InvalidArgument, PreceptorError

ONE_PLANE_HEAD_ROWS = 1 << 16
MAX_HEAD_ROWS = 1 << 24


@dataclass(frozen=True, slots=True)
class EncodedIds:
    """The two planes; `high` is empty where the head has at most 65,536 rows."""

    low: bytes
    high: bytes = b""


def encode_ids(ids: NDArray[Any], head_rows: int, *, field: str = "ids") -> EncodedIds:
    """The planes of ids of any shape and whole-number type, each below `head_rows`."""
    _check_head(head_rows, field, InvalidArgument)
    if ids.dtype.kind not in "ui":
        raise InvalidArgument(f"{field} must be whole numbers", field=field, value=str(ids.dtype), limit="whole numbers")
    _check_range(ids, head_rows, field, InvalidArgument)
    wide = ids.astype(np.uint32, copy=False)
    high = write_plane(wide >> 16, np.uint8) if head_rows > ONE_PLANE_HEAD_ROWS else b""
    return EncodedIds(write_plane(wide, np.uint16), high)


def decode_ids(
    low: Plane,
    high: Plane,
    head_rows: int,
    *,
    rows: int,
    width: int = 0,
    offsets: NDArray[Any] | None = None,
    field: str = "ids",
) -> U32:
    """Ids as u32, each below `head_rows`: [rows, width], or flat and cut by `offsets` where the width is 0."""
    _check_head(head_rows, field, Corrupt)
    layout = layout_from(rows, width, offsets, field)
    two_planes = head_rows > ONE_PLANE_HEAD_ROWS
    low_plane = read_plane(low, np.uint16, layout.entries, f"{field}.low")
    high_plane = read_plane(high, np.uint8, layout.entries if two_planes else 0, f"{field}.high")
    ids = low_plane.astype(np.uint32)
    if two_planes:
        ids |= np.left_shift(high_plane, 16, dtype=np.uint32)
    _check_range(ids, head_rows, field, Corrupt)
    return frozen(ids.reshape(layout.shape))


def _check_head(head_rows: int, field: str, error: type[PreceptorError]) -> None:
    if not 1 <= head_rows <= MAX_HEAD_ROWS:
        raise error(
            f"{field} of a head with {head_rows} rows do not fit 24 bits",
            field=f"{field}.head_rows",
            value=head_rows,
            limit=f"1..{MAX_HEAD_ROWS}",
        )


def _check_range(ids: NDArray[Any], head_rows: int, field: str, error: type[PreceptorError]) -> None:
    if ids.size and not (ids.min() >= 0 and ids.max() < head_rows):
        at = int(np.flatnonzero((ids < 0) | (ids >= head_rows))[0])
        found = int(ids.flat[at])
        raise error(
            f"{field}[{at}] is {found}, outside the head", field=f"{field}[{at}]", value=found, limit=f"0..{head_rows - 1}"
        )
