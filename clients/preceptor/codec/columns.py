"""Columns of one value a row: f32 log-probabilities, and validity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preceptor.codec.enums import Validity
from preceptor.codec.layout import FixedRows
from preceptor.codec.planes import F32, Plane, check_array, check_count, one_nan, read_plane, row_error, write_plane
from preceptor.codec.scores import check_scores
from preceptor.errors import Corrupt, InvalidArgument, PreceptorError

VALIDITY_LIMIT = f"one of 0..{max(Validity).value}"


def encode_column(values: F32, *, validity: NDArray[np.uint8] | None = None, field: str = "column") -> bytes:
    """One f32 a row."""
    check_array(values, np.float32, 1, field)
    with np.errstate(all="ignore"):
        check_scores(values[:, None], FixedRows(len(values), 1), validity, field, InvalidArgument)
        return write_plane(one_nan(values), np.float32)


def decode_column(data: Plane, rows: int, *, validity: NDArray[np.uint8] | None = None, field: str = "column") -> F32:
    """A view of one f32 a row."""
    check_count(rows, "rows", field)
    values = read_plane(data, np.float32, rows, field)
    with np.errstate(all="ignore"):
        check_scores(values[:, None], FixedRows(rows, 1), validity, field, Corrupt)
    return values


def encode_validity(validity: ArrayLike, *, field: str = "validity") -> bytes:
    """One byte a row, from an array or a list of `Validity`."""
    codes = np.asarray(validity) if np.size(validity) else np.zeros(0, np.uint8)
    if codes.ndim != 1 or codes.dtype.kind not in "ui":
        found = f"{codes.ndim}-dimensional {codes.dtype}"
        raise InvalidArgument(f"{field} must be one code a row", field=field, value=found, limit="one-dimensional whole numbers")
    _check_codes(codes, field, InvalidArgument)
    return write_plane(codes, np.uint8)


def decode_validity(data: Plane, rows: int, *, field: str = "validity") -> NDArray[np.uint8]:
    """A view of one known code a row; `Validity(code)` names it."""
    check_count(rows, "rows", field)
    codes = read_plane(data, np.uint8, rows, field)
    _check_codes(codes, field, Corrupt)
    return codes


def _check_codes(codes: NDArray[Any], field: str, error: type[PreceptorError]) -> None:
    unknown = np.flatnonzero((codes < 0) | (codes > max(Validity)))
    if unknown.size:
        row = int(unknown[0])
        raise row_error(error, field, row, int(codes[row]), VALIDITY_LIMIT)
