"""Lists of log-probabilities in one of the grades: `Payload.values`, `bases_f16le` and `steps_f16le`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.affine import check_affine, from_affine, to_affine
from preceptor.codec.enums import Grade
from preceptor.codec.half import half_error_bound, to_half
from preceptor.codec.layout import Layout, layout_from, layout_of
from preceptor.codec.planes import F32, Plane, check_array, frozen, one_nan, read_plane, write_plane
from preceptor.codec.scores import check_scores
from preceptor.errors import Corrupt, InvalidArgument


@dataclass(frozen=True, slots=True)
class EncodedValues:
    """The planes of one payload, and what its receipt has to say about them."""

    grade: Grade
    values: bytes
    bases: bytes = b""
    steps: bytes = b""
    clipped: int = 0
    """Finite entries sent at the grade's floor, outside the bound."""
    error_bound_nats: float = 0.0
    """The largest error any other entry can have; exact as an f32."""


@dataclass(frozen=True, slots=True)
class ReceivedPlanes:
    """Untrusted planes of one payload."""

    values: Plane
    bases: Plane
    steps: Plane


def encode_values(
    values: F32,
    grade: Grade,
    *,
    offsets: NDArray[Any] | None = None,
    validity: NDArray[np.uint8] | None = None,
    field: str = "values",
) -> EncodedValues:
    """The planes of [rows, width] log-probabilities, or of flat ones cut into rows by `offsets`."""
    layout = layout_of(values, offsets, field)
    check_array(values, np.float32, values.ndim, field)
    with np.errstate(all="ignore"):
        check_scores(values, layout, validity, field, InvalidArgument)
        return GRADES[grade].encode(values, layout, field)


def decode_values(
    values: Plane,
    grade: int,
    *,
    rows: int,
    width: int = 0,
    offsets: NDArray[Any] | None = None,
    bases: Plane = b"",
    steps: Plane = b"",
    validity: NDArray[np.uint8] | None = None,
    field: str = "values",
) -> F32:
    """Log-probabilities as f32: [rows, width], or flat and cut by `offsets` where the width is 0."""
    if grade not in GRADES:
        known = " | ".join(f"{g.value} ({g})" for g in GRADES)
        raise Corrupt(f"{field} has the unknown grade {grade}", field=f"{field}.grade", value=grade, limit=known)
    layout = layout_from(rows, width, offsets, field)
    with np.errstate(all="ignore"):
        decoded = GRADES[Grade(grade)].decode(ReceivedPlanes(values, bases, steps), layout, field)
        check_scores(decoded, layout, validity, field, Corrupt)
    return frozen(decoded)


def _encode_f32(values: F32, _layout: Layout, _field: str) -> EncodedValues:
    return EncodedValues(Grade.F32, write_plane(one_nan(values), np.float32))


def _decode_f32(planes: ReceivedPlanes, layout: Layout, field: str) -> F32:
    _check_no_rows(planes, field)
    return read_plane(planes.values, np.float32, layout.entries, field).reshape(layout.shape)


def _encode_f16(values: F32, layout: Layout, field: str) -> EncodedValues:
    half, clipped = to_half(values, layout, field)
    return EncodedValues(Grade.F16, write_plane(half, np.float16), b"", b"", clipped, half_error_bound(half))


def _decode_f16(planes: ReceivedPlanes, layout: Layout, field: str) -> F32:
    _check_no_rows(planes, field)
    return read_plane(planes.values, np.float16, layout.entries, field).astype(np.float32).reshape(layout.shape)


def _encode_u8(values: F32, layout: Layout, field: str) -> EncodedValues:
    rows = to_affine(values, layout, field)
    bases, steps = write_plane(rows.bases, np.float16), write_plane(rows.steps, np.float16)
    return EncodedValues(Grade.U8, rows.codes.tobytes(), bases, steps, rows.clipped, rows.error_bound_nats)


def _decode_u8(planes: ReceivedPlanes, layout: Layout, field: str) -> F32:
    codes = read_plane(planes.values, np.uint8, layout.entries, field).reshape(layout.shape)
    bases = read_plane(planes.bases, np.float16, layout.rows, f"{field}.bases")
    steps = read_plane(planes.steps, np.float16, layout.rows, f"{field}.steps")
    check_affine(bases, steps, f"{field}.bases", f"{field}.steps")
    return from_affine(codes, layout, bases, steps)


def _check_no_rows(planes: ReceivedPlanes, field: str) -> None:
    for name, plane in (("bases", planes.bases), ("steps", planes.steps)):
        if len(plane):
            raise Corrupt(f"{field} carries {name}, which only u8 has", field=f"{field}.{name}", value=len(plane), limit=0)


@dataclass(frozen=True, slots=True)
class GradeCodec:
    """Both directions of one grade; arrays have the shape of their layout and hold no +inf."""

    encode: Callable[[F32, Layout, str], EncodedValues]
    decode: Callable[[ReceivedPlanes, Layout, str], F32]


GRADES: dict[Grade, GradeCodec] = {
    Grade.F32: GradeCodec(_encode_f32, _decode_f32),
    Grade.F16: GradeCodec(_encode_f16, _decode_f16),
    Grade.U8: GradeCodec(_encode_u8, _decode_u8),
}
"""Every grade's two directions. A new one is a number in `Grade` and in the protocol's enum, a file with its arithmetic beside
`half` and `affine`, a row here, and its plain twin in `tests/reference/codec_reference.py`."""
