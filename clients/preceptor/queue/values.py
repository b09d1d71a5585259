"""What stands under the keys: the values that the scripts of `preceptor.queue.scripts` read and change."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from preceptor.queue.quotas import Counter
from preceptor.queue.types import ClockCharge, TaskState


@dataclass(slots=True)
class TaskRow:
    """The hash of one task."""

    spec: bytes = b""
    state: TaskState = TaskState.IDLE
    dirty: bool = False
    suspect: bool = False
    alone: bool = False  # the running lease is a suspect's
    strikes: int = 0
    scored_upto: int = 0
    next_row: int = 0
    leased_row: int = 0  # next_row when the running lease began
    fence: bytes = b""
    expires_ms: int = 0
    worker: str = ""
    model: bytes = b""
    band: int = 0
    deadline_ms: int = 0
    error: bytes = b""


class ReadySet:
    """Sorted set: members by score, then by name."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, member: str, score: float) -> None:
        self.remove(member)
        self._scores[member] = score
        insort(self._order, (score, member))

    def remove(self, member: str) -> None:
        score = self._scores.pop(member, None)
        if score is not None:
            del self._order[bisect_left(self._order, (score, member))]

    def first(self, low: float, high: float) -> str | None:
        """The first member with low <= score < high."""
        index = bisect_left(self._order, (low, ""))
        return self._order[index][1] if index < len(self._order) and self._order[index][0] < high else None

    def count(self, low: float, high: float) -> int:
        """How many members have low <= score < high."""
        return bisect_left(self._order, (high, "")) - bisect_left(self._order, (low, ""))


Position = tuple[int, int]


@dataclass(slots=True)
class StreamValue:
    """Append-only entries under rising positions (milliseconds, number). Deleting never frees a position for another entry."""

    entries: list[tuple[Position, bytes]] = field(default_factory=list[tuple[Position, bytes]])
    last: Position = (0, 0)

    def add(self, payload: bytes, now_ms: int) -> Position:
        """The new entry's position; a clock that went back does not matter."""
        milliseconds, number = self.last
        self.last = (now_ms, 0) if now_ms > milliseconds else (milliseconds, number + 1)
        self.entries.append((self.last, payload))
        return self.last

    def behind(self, position: Position) -> int:
        """Index of the first entry after `position`."""
        return bisect_right(self.entries, position, key=lambda entry: entry[0])

    def find(self, position: Position) -> int | None:
        """Index of the entry at `position`."""
        index = self.behind(position) - 1
        return index if index >= 0 and self.entries[index][0] == position else None


@dataclass(slots=True)
class LogValue:
    """The stream of one log: its entries by offset, their kinds and ids for comparison, and its length."""

    offsets: list[int] = field(default_factory=list[int])
    kinds: list[str] = field(default_factory=list[str])
    planes: list[bytes] = field(default_factory=list[bytes])
    payloads: list[bytes] = field(default_factory=list[bytes])
    length: int = 0
    finish_reason: int = 0


class SubscriberSet(set[str]):
    """Set of ``<teacher>:<task id>``."""


class LeaseSet(dict[str, int]):
    """Sorted set: ``<tenant>:<job>:<task id>`` by the millisecond at which the lease ends."""


@dataclass(slots=True)
class FlowRow:
    """One flow's fields of the `flows` hash."""

    unread_bytes: int = 0
    touched_ms: int = 0
    clocks: dict[int, float] = field(default_factory=dict[int, float])

    def charge(self, charge: ClockCharge) -> float:
        clock = max(self.clocks.get(charge.band, 0.0) + charge.settled, charge.floor) + charge.charged
        self.clocks[charge.band] = clock
        return clock


class FlowTable(dict[tuple[str, str], FlowRow]):
    """Hash: the fields of each (tenant, job)."""


@dataclass(frozen=True, slots=True)
class QuotaHold:
    """One reservation, and the second to which its tokens were counted."""

    expires_ms: int
    second: int
    tokens: int
    places: int
    owners: tuple[str, ...]


@dataclass(slots=True)
class QuotaValue:
    """The hash of one tenant's quota: tokens by the second in which they were reserved, and what is reserved now."""

    seconds: dict[int, int] = field(default_factory=dict[int, int])
    holds: dict[str, QuotaHold] = field(default_factory=dict[str, QuotaHold])


@dataclass(slots=True)
class UsageValue:
    """The hash of what one tenant used, and the operations that were counted last."""

    jobs: dict[str, dict[Counter, int]] = field(default_factory=dict[str, dict[Counter, int]])
    ops: list[bytes] = field(default_factory=list[bytes])
