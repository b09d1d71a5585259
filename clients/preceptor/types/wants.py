"""What a caller wants to know about the rows of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.codec import Grade, WireEnum
from preceptor.types.sequences import RaggedIds, Sequence


class TailOf(WireEnum):
    """Which returned ids the tail excludes; the numbers are the protocol's."""

    NONE = 0
    UNION = 1
    TOPK = 2
    CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Window:
    """Rows start .. end - 1."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Want:
    """Any mix of signals, over all rows or a window of them, from one forward pass."""

    sampled: bool = False
    topk: int = 0
    candidates: RaggedIds | None = None
    log_candidates: bool = False
    entropy: bool = False
    tail: TailOf = TailOf.NONE
    samples: int = 0
    sample_seed: int = 0
    hidden: bool = False
    next: bool = False
    window: Window | None = None
    temperature: float = 1.0
    grade: Grade = Grade.F32
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """One sequence, and what is wanted of its rows."""

    sequence: Sequence
    want: Want
