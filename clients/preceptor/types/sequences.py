"""Sequences: ordered segments of token ids, and what it means to index their response tokens by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preceptor.errors import InvalidArgument

Ids = NDArray[np.uint32]
SegmentKind = Literal["context", "response"]


def as_ids(values: ArrayLike, field: str = "ids") -> Ids:
    """One-dimensional u32 ids; anything that is not a whole number in range is refused by name."""
    raw = np.asarray(values)
    if raw.ndim != 1:
        raise InvalidArgument(
            f"{field} must be one-dimensional", field=field, value=f"{raw.ndim} dimensions", limit="1 dimension"
        )
    if raw.size == 0:
        return np.zeros(0, np.uint32)
    if raw.dtype.kind not in "ui":
        raise InvalidArgument(f"{field} must be whole numbers", field=field, value=str(raw.dtype), limit="integers")
    if raw.dtype != np.uint32 and (int(raw.min()) < 0 or int(raw.max()) >= 1 << 32):
        raise InvalidArgument(f"{field} out of range", field=field, value=f"{raw.min()}..{raw.max()}", limit="0..4294967295")
    return raw.astype(np.uint32, copy=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one kind: context is read, response is scored."""

    kind: SegmentKind
    ids: Ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segment) and self.kind == other.kind and np.array_equal(self.ids, other.ids)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True)
class Sequence:
    """What a model reads, in order. Row r is response token r of the whole sequence, whichever turn it stands in."""

    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, context: ArrayLike, response: ArrayLike) -> Sequence:
        """The common case: one context and one response."""
        return cls((Segment("context", as_ids(context, "context")), Segment("response", as_ids(response, "response"))))

    @classmethod
    def of_turns(cls, turns: Iterable[tuple[SegmentKind, ArrayLike]]) -> Sequence:
        """Several turns, each ("context" | "response", ids)."""
        return cls(tuple(Segment(kind, as_ids(ids, kind)) for kind, ids in turns))

    @cached_property
    def ids(self) -> Ids:
        """All tokens, in order."""
        return np.concatenate([s.ids for s in self.segments]) if self.segments else np.zeros(0, np.uint32)

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Absolute index of each response token: row r predicts ids[targets[r]] from ids[:targets[r]]."""
        spans: list[NDArray[np.int64]] = []
        start = 0
        for segment in self.segments:
            if segment.kind == "response":
                spans.append(np.arange(start, start + len(segment.ids)))
            start += len(segment.ids)
        return np.concatenate(spans) if spans else np.zeros(0, np.int64)

    @property
    def row_count(self) -> int:
        return len(self.targets)

    @property
    def response_ids(self) -> Ids:
        """The response tokens of all turns: the targets of rows 0 .. row_count - 1."""
        return self.ids[self.targets]


@dataclass(frozen=True, slots=True)
class RaggedIds:
    """A list of ids for each row, in the caller's order: row i owns ids[offsets[i]:offsets[i + 1]]."""

    offsets: NDArray[np.uint32]
    ids: Ids

    @classmethod
    def from_rows(cls, rows: Iterable[ArrayLike]) -> RaggedIds:
        lists = [as_ids(row, f"candidates[{i}]") for i, row in enumerate(rows)]
        offsets = np.zeros(len(lists) + 1, np.uint32)
        np.cumsum([len(row) for row in lists], out=offsets[1:])
        return cls(offsets, np.concatenate(lists) if lists else np.zeros(0, np.uint32))

    @property
    def row_count(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> Ids:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def rows_between(self, start: int, end: int) -> RaggedIds:
        """The lists of rows start .. end - 1."""
        offsets = self.offsets[start : end + 1]
        return RaggedIds(offsets - offsets[0], self.ids[offsets[0] : offsets[-1]])
