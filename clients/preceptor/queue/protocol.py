"""What a queue can do, as Protocols: `preceptor.queue.memory` implements them here and now, others across machines.

Each mutating call is one atomic step that touches keys of one slot (`keys.py`); whatever needs two slots is composed of such
steps in `writer.py` and `learner.py`, and is safe when the process dies between any two of them. `docs/protocol.md` has the
state diagram; `tests/contract/queue_suite.py` is the suite that every implementation passes.

Errors: `Conflict` (other content under the same name), `Gap` (something before this is missing; `limit` says from where to
send again), `Fenced` (somebody else holds the task now, or it was cancelled), `NotFound`, `InvalidArgument`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from preceptor.queue.keys import Flow, LogName
from preceptor.queue.quotas import Payment
from preceptor.queue.types import (
    OUT_START,
    Appended,
    ClockCharge,
    Committed,
    DeadEntry,
    FlowView,
    Lease,
    LogView,
    OutEntry,
    ReadyBand,
    Reclaimed,
    Subscriber,
    TaskInfo,
    TaskState,
    Then,
)
from preceptor.types import ModelRef
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2


class ResponseLogs(Protocol):
    """Logs of growing rollouts. One writer for each attempt; any number of readers."""

    async def append(self, log: LogName, entry: rollout_pb2.LogEntry) -> Appended:
        """Add a segment, or the close, at its offset. What is there already with equal content is ignored.

        Other content at the same place is `Conflict`; an offset past the end, or an entry that only begins inside the log, is
        `Gap` with the log's length. Poke the subscribers afterwards, also of a duplicate.
        """
        ...

    async def read(self, log: LogName, offset: int = 0) -> LogView:
        """Entries from the one that holds `offset` on, and whether the log is closed."""
        ...

    async def follow(self, log: LogName, offset: int, timeout_s: float) -> LogView:
        """`read` as soon as the log is longer than `offset` or closed; after `timeout_s` whatever there is."""
        ...

    async def subscribe(self, log: LogName, subscriber: Subscriber) -> None:
        """From now on `append` names this task."""
        ...

    async def unsubscribe(self, log: LogName, subscriber: Subscriber) -> None:
        """`append` names it no more."""
        ...


class Tasks(Protocol):
    """Score tasks as their owner sees them."""

    async def create(self, flow: Flow, task: teacher_pb2.ScoreTask) -> bool:
        """True when the task is new, False when it is there with equal content; `Conflict` with other content."""
        ...

    async def reopen(self, flow: Flow, task: teacher_pb2.ScoreTask, next_row: int) -> TaskState:
        """Ready from `next_row` on, whatever was known of it; a lease that runs is fenced off. Cancelled and dead stay so."""
        ...

    async def poke(self, flow: Flow, task_id: str) -> TaskInfo | None:
        """Mark it dirty and make it ready if it was idle. What it is now; None when nobody knows it."""
        ...

    async def cancel(self, flow: Flow, task_id: str) -> TaskState | None:
        """No row is committed from now on. The state it ended in; None when nobody knows it."""
        ...

    async def task_info(self, flow: Flow, task_id: str) -> TaskInfo | None:
        """What it is, untouched."""
        ...


class Work(Protocol):
    """Tasks as a worker sees them."""

    async def ready_bands(self, teacher: str) -> tuple[ReadyBand, ...]:
        """Where work is waiting."""
        ...

    async def wait_ready(self, teacher: str, timeout_s: float) -> bool:
        """True as soon as some task of this teacher is ready; False after `timeout_s`."""
        ...

    async def lease(
        self,
        flow: Flow,
        worker: str,
        *,
        band: int = 0,
        limit: int = 1,
        alone: bool = False,
        latest: ModelRef | None = None,
    ) -> tuple[Lease, ...]:
        """Up to `limit` tasks by deadline. With `alone`, at most one suspect instead; without, never a suspect.

        `latest` is what the worker serves as the newest weights: a task that asks for them is pinned to it at its first lease.
        Tasks whose deadline has passed are ended with DEADLINE_EXCEEDED and not handed out. A flow over its bound of unread
        results gives nothing.
        """
        ...

    async def heartbeat(self, lease: Lease) -> Lease:
        """The same lease, renewed; `Fenced` when it is lost."""
        ...

    async def commit(
        self,
        lease: Lease,
        envelopes: Sequence[teacher_pb2.Envelope],
        scored_upto: int,
        then: Then = Then.RELEASE,
        *,
        payment: Payment | None = None,
    ) -> Committed:
        """Rows, position and lease in one step, or `Fenced` and nothing.

        Rows start at the task's next row (`Gap` otherwise). A repeat under the same fence is ignored: its rows are there.
        In the same step a reservation of the lease's tenant at the lease's teacher is settled, if it still stands, and its job's
        use counted.
        """
        ...

    async def hand_back(self, lease: Lease) -> None:
        """Ready again, for whoever comes next. Never held against the task."""
        ...

    async def fail(self, lease: Lease, error: common_pb2.ErrorDetail) -> TaskState:
        """The task could not be scored, and its state after that.

        ENGINE_FAILED counts as a death, other retryable errors hand it back, and the rest is a strike against it.
        """
        ...

    async def reclaim(self, teacher: str) -> tuple[Reclaimed, ...]:
        """Take back every lease that has run out. Any worker may call it, any number at once."""
        ...

    async def advance_clocks(self, teacher: str, charges: Sequence[ClockCharge]) -> Mapping[tuple[Flow, int], float]:
        """Apply all charges of one batch as one step; the new clocks of these flows and bands."""
        ...


class Results(Protocol):
    """The stream of one job's results, as its learner sees it."""

    async def read_out(
        self, flow: Flow, after: str = OUT_START, *, limit: int = 256, timeout_s: float = 0.0
    ) -> tuple[OutEntry, ...]:
        """Results behind the position, waiting up to `timeout_s` for the first."""
        ...

    async def delete_out(self, flow: Flow, upto: str, blobs: Sequence[teacher_pb2.BlobRef] = ()) -> None:
        """Everything up to and with `upto`, and these blobs, may be forgotten: it is in the learner's journal."""
        ...

    async def read_blob(self, flow: Flow, blob: teacher_pb2.BlobRef) -> common_pb2.Rows | None:
        """The rows; None when they are gone or are not what the entry says: open the task again from its next row."""
        ...


class DeadLetters(Protocol):
    """Tasks that were given up, kept with reason and trace until somebody looks."""

    async def dead_letters(self, flow: Flow, *, limit: int = 100) -> tuple[DeadEntry, ...]:
        """The oldest letters of a job."""
        ...

    async def dead_letter(self, flow: Flow, letter_id: str) -> DeadEntry:
        """One letter; `NotFound` when it is not there."""
        ...

    async def replay_dead_letter(self, flow: Flow, letter_id: str) -> TaskState:
        """Ready again with a clean record, from the row it had reached; the letter is gone."""
        ...

    async def drop_dead_letter(self, flow: Flow, letter_id: str) -> None:
        """The letter is gone; the task stays dead."""
        ...


class Overview(Protocol):
    """Looking without touching."""

    async def teachers(self) -> tuple[str, ...]:
        """Teachers that have had work lately, by name. It walks over all keys of the server: for people, not for loops."""
        ...

    async def describe_flows(self, teacher: str) -> tuple[FlowView, ...]:
        """Every job that this teacher knows, idle ones too, by name."""
        ...


class Queue(ResponseLogs, Tasks, Work, Results, DeadLetters, Overview, Protocol):
    """All of it."""

    async def close(self) -> None:
        """Release what the implementation holds. Waiting calls return."""
        ...
