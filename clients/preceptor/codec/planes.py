"""Byte planes: the one place where untrusted bytes become arrays and where the shape of an array to send is checked."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import Corrupt, InvalidArgument, PreceptorError

Plane = bytes | bytearray | memoryview
F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]
Scalar = TypeVar("Scalar", bound=np.generic)

U32_MAX = 2**32 - 1


def read_plane(data: Plane, dtype: type[Scalar], entries: int, field: str) -> NDArray[Scalar]:
    """A read-only view of exactly `entries` little-endian values."""
    kind = np.dtype(dtype).newbyteorder("<")
    view = memoryview(data)
    if view.nbytes != entries * kind.itemsize:
        raise Corrupt(
            f"{field} has {view.nbytes} bytes where {entries} entries of {kind.itemsize} are due",
            field=field,
            value=view.nbytes,
            limit=entries * kind.itemsize,
        )
    return frozen(np.frombuffer(data, kind))


def write_plane(values: NDArray[Any], dtype: type[np.generic]) -> bytes:
    """The values in row-major order, little-endian."""
    return values.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()


def frozen(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """The same array, read-only."""
    values.setflags(write=False)
    return values


def check_count(count: int, name: str, field: str) -> None:
    """Counts are u32 on the wire; a caller may pass what arithmetic on untrusted numbers gave it."""
    if not 0 <= count <= U32_MAX:
        raise Corrupt(f"{field} claims {count} {name}", field=field, value=count, limit=f"0..{U32_MAX}")


def check_array(values: NDArray[Any], dtype: type[np.generic], dimensions: int, field: str) -> None:
    """Refuses an array of another type or shape: converting it silently could change what it says."""
    kind = np.dtype(dtype)
    if values.dtype != kind or values.ndim != dimensions:
        raise InvalidArgument(
            f"{field} must be a {dimensions}-dimensional {kind} array",
            field=field,
            value=f"{values.ndim}-dimensional {values.dtype}",
            limit=f"{dimensions}-dimensional {kind}",
            hint=f"convert explicitly, e.g. values.astype(np.{kind})",
        )


def one_nan(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """The values with every NaN written as the quiet one without sign or payload; a copy only where there are any."""
    missing = np.isnan(values)
    return np.where(missing, values.dtype.type(np.nan), values) if missing.any() else values


def row_error(error: type[PreceptorError], field: str, row: int, found: object, expected: object) -> PreceptorError:
    """An error about one row of a field."""
    return error(f"{field}[{row}] holds {found}; {expected}", field=f"{field}[{row}]", value=found, limit=expected)
