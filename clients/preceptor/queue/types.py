"""What goes into and comes out of a queue: frozen values, the same for every implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from preceptor.errors import InvalidArgument
from preceptor.queue.keys import Flow, check_id
from preceptor.types import ModelRef
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2

Clock = Callable[[], float]
"""Seconds since 1970. Queues never look at another clock, except to bound how long a call may wait."""

OUT_START = "0"
"""The position before the first result."""
FENCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """Every time and size of the protocol that an operator may change, with its one default."""

    lease_s: float = 30.0  # a worker that is silent for so long is dead
    inline_rows_bytes: int = 16 << 10  # larger rows travel as blobs
    unread_bytes: int = 64 << 20  # a job with more unread results is not leased
    strikes: int = 3  # deaths alone or permanent errors until a task is a dead letter
    kept_s: float = 24 * 3600.0  # logs, tasks and results that nobody touches
    blob_s: float = 3600.0
    dead_letters_s: float = 7 * 24 * 3600.0
    idle_flow_s: float = 3600.0  # clocks that nobody touches


class TaskState(StrEnum):
    """Where a task is. The last three are the end."""

    IDLE = "idle"  # everything known is scored; a poke makes it ready
    READY = "ready"
    LEASED = "leased"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    DEAD = "dead"  # in the dead letters; replaying the letter makes it ready


ENDED = frozenset({TaskState.FINISHED, TaskState.CANCELLED, TaskState.DEAD})


class Then(StrEnum):
    """What a commit does with the lease."""

    KEEP = "keep"  # renewed: more rows of what was read follow
    RELEASE = "release"  # ready again if somebody poked meanwhile, idle otherwise
    FINISH = "finish"  # the log is closed and every row is scored


class Subscriber(NamedTuple):
    """A task that wants to hear of a log's growth."""

    teacher: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.teacher}:{self.task_id}"

    @classmethod
    def parse(cls, text: str) -> Subscriber:
        teacher, _, task_id = text.partition(":")
        return cls(teacher, check_id(task_id, "task_id"))


@dataclass(frozen=True, slots=True)
class Appended:
    """The log's length after an append, and whom to poke now."""

    length: int
    subscribers: tuple[Subscriber, ...]


@dataclass(frozen=True, slots=True)
class LogView:
    """Entries of a log from an offset on. A log that nobody has written yet is empty and open."""

    entries: tuple[rollout_pb2.LogEntry, ...]
    length: int
    finish_reason: int = common_pb2.FINISH_REASON_UNSPECIFIED

    @property
    def closed(self) -> bool:
        return self.finish_reason != common_pb2.FINISH_REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task as the queue knows it."""

    task: teacher_pb2.ScoreTask
    state: TaskState
    dirty: bool
    suspect: bool
    strikes: int
    scored_upto: int  # log tokens behind which every row is committed
    next_row: int
    model: ModelRef | None  # pinned at the first lease
    worker: str
    error: common_pb2.ErrorDetail | None  # why it is dead


@dataclass(frozen=True, slots=True)
class Lease:
    """One task in the hands of one worker until `expires_at_s`. The fence is its only proof."""

    flow: Flow
    task_id: str
    fence: bytes
    expires_at_s: float
    task: teacher_pb2.ScoreTask
    alone: bool  # a suspect: run nothing else until it is committed
    scored_upto: int
    next_row: int
    model: ModelRef | None
    left_s: float = math.inf  # until the task's deadline, by the queue's clock, when it was leased

    def __post_init__(self) -> None:
        if len(self.fence) != FENCE_BYTES:
            raise InvalidArgument("a fence is 128 bits", field="fence", value=len(self.fence), limit=FENCE_BYTES)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit left behind: the task's state and next row, and the renewed lease where it was kept."""

    state: TaskState
    next_row: int
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class ReadyBand:
    """Work of one flow and band that a worker could lease."""

    flow: Flow
    band: int
    ready: int
    suspects: int  # ready too, but leased one at a time and alone
    unread_bytes: int
    over_bound: bool  # too many unread results: nothing of this flow is leased


@dataclass(frozen=True, slots=True)
class FlowView:
    """What one job has at a teacher, for people who look."""

    flow: Flow
    ready: int  # suspects included
    suspects: int
    leased: int
    unread_results: int
    unread_bytes: int
    dead_letters: int
    clocks: Mapping[int, float]  # by band

    @property
    def empty(self) -> bool:
        """Nothing waits, runs, or lies unread or dead."""
        return not (self.ready or self.leased or self.unread_results or self.dead_letters)


@dataclass(frozen=True, slots=True)
class ClockCharge:
    """One band's change in one batch: ``clock = max(clock + settled, floor) + charged``, in cost over weight."""

    flow: Flow
    band: int
    settled: float
    floor: float
    charged: float


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """A task whose worker died, and what became of it."""

    flow: Flow
    task_id: str
    state: TaskState
    worker: str


@dataclass(frozen=True, slots=True)
class OutEntry:
    """One result of a job, at its position in the stream."""

    position: str
    envelope: teacher_pb2.Envelope


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """One dead letter, under its name in the stream."""

    letter_id: str
    letter: teacher_pb2.DeadLetter
