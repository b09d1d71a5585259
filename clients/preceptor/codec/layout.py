"""Which entry belongs to which row: lists of one width, or ragged lists cut by offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.planes import U32, U32_MAX, Plane, Scalar, check_count, read_plane, write_plane
from preceptor.errors import Corrupt, InvalidArgument, PreceptorError


@dataclass(frozen=True, slots=True)
class FixedRows:
    """Rows of one width; values are [rows, width]."""

    rows: int
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, self.width)

    @property
    def entries(self) -> int:
        return self.rows * self.width

    def highest(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """The highest value of each row."""
        return values.max(axis=1)

    def lowest(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """The lowest value of each row."""
        return values.min(axis=1)

    def spread(self, per_row: NDArray[Scalar]) -> NDArray[Scalar]:
        """One value a row, in a shape that broadcasts against the entries."""
        return per_row[:, None]

    def row_of(self, entry: int) -> int:
        return entry // self.width


@dataclass(frozen=True, slots=True)
class RaggedRows:
    """Rows cut from flat values: row i owns values[offsets[i]:offsets[i + 1]], and may own none."""

    offsets: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.entries,)

    @property
    def entries(self) -> int:
        return int(self.offsets[-1])

    def highest(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """The highest value of each row; -inf for a row without entries."""
        return self._reduce(np.maximum, values, -np.inf)

    def lowest(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """The lowest value of each row; +inf for a row without entries."""
        return self._reduce(np.minimum, values, np.inf)

    def spread(self, per_row: NDArray[Scalar]) -> NDArray[Scalar]:
        """One value a row, repeated for each of its entries."""
        return np.repeat(per_row, np.diff(self.offsets))

    def row_of(self, entry: int) -> int:
        return int(np.searchsorted(self.offsets, entry, side="right")) - 1

    def _reduce(self, operation: np.ufunc, values: NDArray[Scalar], of_nothing: float) -> NDArray[Scalar]:
        # reduceat answers an empty cut with its first neighbour: give it the rows that own something and no others.
        starts = self.offsets[:-1]
        filled = starts < self.offsets[1:]
        found = np.full(self.rows, of_nothing, values.dtype)
        if filled.any():
            found[filled] = operation.reduceat(values, starts[filled])
        return found


Layout = FixedRows | RaggedRows


def encode_offsets(offsets: NDArray[Any], *, entries: int | None = None, field: str = "offsets") -> bytes:
    """rows + 1 offsets as u32: they start at 0, never fall, and end at the number of entries where that is given."""
    return write_plane(checked_offsets(offsets, entries, field, InvalidArgument), np.uint32)


def decode_offsets(data: Plane, rows: int, entries: int | None = None, *, field: str = "offsets") -> U32:
    """A view of the rows + 1 offsets, checked to start at 0, never fall, and end at `entries` where that is given."""
    check_count(rows, "rows", field)
    offsets = read_plane(data, np.uint32, rows + 1, field)
    checked_offsets(offsets, entries, field, Corrupt)
    return offsets


def checked_offsets(offsets: NDArray[Any], entries: int | None, field: str, error: type[PreceptorError]) -> NDArray[np.int64]:
    """The offsets as signed numbers, after every check."""
    if offsets.ndim != 1 or offsets.dtype.kind not in "ui" or len(offsets) == 0:
        raise error(
            f"{field} must be a one-dimensional array of whole numbers, one more than rows",
            field=field,
            value=f"{offsets.dtype}{list(offsets.shape)}",
            limit="whole numbers[rows + 1]",
        )
    if int(offsets[0]) != 0:
        raise error(f"{field} must start at 0", field=f"{field}[0]", value=int(offsets[0]), limit=0)
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if falls.size:
        at = int(falls[0]) + 1
        raise error(f"{field} falls at {at}", field=f"{field}[{at}]", value=int(offsets[at]), limit=f">= {offsets[at - 1]}")
    end = int(offsets[-1])
    if end > U32_MAX or (entries is not None and end != entries):
        limit = f"<= {U32_MAX}" if entries is None else entries
        raise error(f"{field} must end at the number of entries", field=f"{field}[{len(offsets) - 1}]", value=end, limit=limit)
    return offsets.astype(np.int64)


def layout_of(values: NDArray[Any], offsets: NDArray[Any] | None, field: str) -> Layout:
    """How the rows lie in an array that is to be sent: [rows, width], or flat with offsets."""
    dimensions = 2 if offsets is None else 1
    if values.ndim != dimensions:
        raise InvalidArgument(
            f"{field} must be [rows, width] without offsets, or flat with them",
            field=field,
            value=f"{values.ndim} dimensions",
            limit=f"{dimensions} dimensions",
        )
    if offsets is not None:
        return RaggedRows(checked_offsets(offsets, len(values), f"{field}.offsets", InvalidArgument))
    if values.shape[1] == 0:
        raise InvalidArgument(f"{field} has width 0, which means ragged", field=f"{field}.width", value=0, limit=">= 1")
    return FixedRows(*values.shape)


def layout_from(rows: int, width: int, offsets: NDArray[Any] | None, field: str) -> Layout:
    """How the rows lie in bytes that were received; width 0 says that offsets cut them."""
    check_count(rows, "rows", f"{field}.rows")
    check_count(width, "entries a row", f"{field}.width")
    if (offsets is None) == (width == 0):
        found = "neither" if offsets is None else "both"
        raise Corrupt(f"{field} needs a width or offsets", field=f"{field}.width", value=found, limit="one of width and offsets")
    if offsets is None:
        return FixedRows(rows, width)
    ragged = RaggedRows(checked_offsets(offsets, None, f"{field}.offsets", Corrupt))
    if ragged.rows != rows:
        raise Corrupt(f"{field} has offsets of other rows", field=f"{field}.offsets", value=ragged.rows + 1, limit=rows + 1)
    return ragged
