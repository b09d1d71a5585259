"""The nouns of scheduling: what goes in, what comes out. All frozen; times are seconds on the caller's clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from preceptor.errors import InvalidArgument

LOWEST_BAND = 9


class FlowKey(NamedTuple):
    """Whose work it is. Tasks of one key share a clock and a queue; a job that uses two bands has two flows."""

    teacher: str
    tenant: str
    job: str
    band: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a task asks of the engine: as an estimate when it is submitted, as the truth when it is finished."""

    new_tokens: int  # logical new tokens: neither cached nor already charged for this task
    rows: int
    recomputed_tokens: int = 0  # after eviction or takeover: fills the batch, is reported, is never charged

    @property
    def batch_tokens(self) -> int:
        """Tokens that the engine has to compute, charged or not."""
        return self.new_tokens + self.recomputed_tokens


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of dispatch. ``task_id`` is unique among the tasks that are queued or running."""

    task_id: str
    flow: FlowKey
    work: Work
    weight: float  # of the flow, as the door read it from the key; the newest task's holds
    deadline_s: float = math.inf
    suspect: bool = False  # was in a batch whose engine died: runs alone

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InvalidArgument("a flow's weight is a positive number", field="weight", value=self.weight)
        if not 0 <= self.flow.band <= LOWEST_BAND:
            raise InvalidArgument("no such band", field="flow.band", value=self.flow.band, limit=LOWEST_BAND)
        if min(self.work.new_tokens, self.work.rows, self.work.recomputed_tokens) < 0:
            raise InvalidArgument("work cannot be negative", field="work", value=self.work)
        if math.isnan(self.deadline_s):
            raise InvalidArgument("a deadline is a time", field="deadline_s", value=self.deadline_s)


class DropReason(StrEnum):
    """Why a task left the queue without being computed."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DUPLICATE = "duplicate"  # a ready source handed out a task that is already here


class CancelResult(StrEnum):
    """What a cancel found."""

    DROPPED = "dropped"  # it was queued and will not run
    RUNNING = "running"  # it is on an engine; it will not run again
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A task that ended in the queue. Each one is reported exactly once."""

    task: Task
    reason: DropReason
    at_s: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What one engine call computes, in the order of service."""

    tasks: tuple[Task, ...]
    batch_tokens: int

    def __bool__(self) -> bool:
        return bool(self.tasks)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The final account of one task that ran."""

    task: Task
    estimated_cost: float
    cost: float
    recomputed_tokens: int
    queued_s: float
    ran_s: float


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, in tasks and in batch tokens, for each flow and for all flows together."""

    flow_tasks: int = 4_096
    flow_tokens: int = 8_388_608
    total_tasks: int = 65_536
    total_tokens: int = 67_108_864
    flow_share: float = 1.0  # of the room that other flows leave; below 1 a flood always leaves room for others

    def flow_room(self, total: int, others: int) -> int:
        """How much one flow may hold of a total while other flows hold so much."""
        return math.ceil(self.flow_share * (total - others))
