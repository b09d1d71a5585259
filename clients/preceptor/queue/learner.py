"""The learner's side of the queue: open tasks, take each row once and in order, and notice what got lost.

It holds no rows and no journal. The caller journals what `take` returned and then calls `acknowledge`; after a restart it
builds a new `ScoreStream` from its journal. `take` may return the same rows again only to a caller that did not keep its
own count, because both sides count by `next_row`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from preceptor.queue.envelopes import SCHEMA, row_range
from preceptor.queue.keys import Flow, LogName
from preceptor.queue.parts import first_row
from preceptor.queue.protocol import Queue
from preceptor.queue.types import ENDED, OUT_START, OutEntry, Subscriber, TaskInfo, TaskState
from preceptor.wire import rollout_id_from_proto
from preceptor_proto.v1 import common_pb2, teacher_pb2

REPOKE_S = 5.0
"""How often a learner pokes its open tasks again: a dead writer costs this much delay, never a hang."""


GIVEN_UP = frozenset({TaskState.DEAD, TaskState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Delivery:
    """The next rows of one task, inline, or the error that ended it."""

    task_id: str
    start: int
    end: int
    finished: bool
    envelope: teacher_pb2.Envelope


@dataclass(frozen=True, slots=True)
class Taken:
    """One read of the stream: what to journal, up to where the stream may then be deleted, and which blobs with it.

    Journal the position too where it is not `OUT_START`, which says that nothing was there to read.
    """

    position: str
    deliveries: tuple[Delivery, ...]
    blobs: tuple[teacher_pb2.BlobRef, ...]


@dataclass(slots=True)
class _Open:
    task: teacher_pb2.ScoreTask
    next_row: int
    asked_again: bool = False  # a hole was found: what lies behind it comes again, so it is not a second hole


@dataclass(slots=True)
class ScoreStream:
    """All open tasks of one job at one teacher."""

    queue: Queue
    flow: Flow
    position: str = OUT_START
    _open: dict[str, _Open] = field(default_factory=dict[str, _Open])
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _doubts: dict[str, TaskInfo] = field(default_factory=dict[str, TaskInfo])

    @property
    def open_tasks(self) -> dict[str, int]:
        """The tasks that still owe rows, and the next row of each."""
        return {task_id: held.next_row for task_id, held in self._open.items()}

    @property
    def in_doubt(self) -> bool:
        """Whether the queue says of a task that it is further than what arrived: the next read to the end settles it."""
        return bool(self._doubts)

    async def open(self, task: teacher_pb2.ScoreTask) -> None:
        """Subscribe, create, poke. Journal the task first; a learner that dies in between opens it again."""
        self._open[task.task_id] = _Open(task, first_row(task))
        await self._subscribe(task)
        await self.queue.create(self.flow, task)
        await self.queue.poke(self.flow, task.task_id)

    async def resume(self, task: teacher_pb2.ScoreTask, next_row: int) -> None:
        """Go on with a task of a journal: from its next row, under its id, whatever the queue still knows of it."""
        self._open[task.task_id] = _Open(task, next_row)
        await self._subscribe(task)
        await self._check(task.task_id, await self.queue.poke(self.flow, task.task_id))

    async def cancel(self, task_id: str) -> None:
        """No rows of this task are taken from now on."""
        self._open.pop(task_id, None)
        await self.queue.cancel(self.flow, task_id)

    async def take(self, *, limit: int = 256, timeout_s: float = 0.0) -> Taken:
        """What arrived behind the position: each task's next rows, everything else left out."""
        async with self._turn:
            doubts, self._doubts = self._doubts, {}  # those that came up before this read
            entries = await self.queue.read_out(self.flow, self.position, limit=limit, timeout_s=timeout_s)
            deliveries = [delivery for entry in entries if (delivery := await self._accept(entry)) is not None]
            if entries:
                self.position = entries[-1].position
            if len(entries) < limit:
                deliveries += await self._settle(doubts)
            else:
                self._doubts = {**doubts, **self._doubts}
            named = (entry.envelope.blob for entry in entries if entry.envelope.WhichOneof("body") == "blob")
            read_upto = entries[-1].position if entries else OUT_START
            return Taken(read_upto, tuple(deliveries), tuple(named))

    async def acknowledge(self, taken: Taken) -> None:
        """Delete what `take` returned. Call it after the journal's fsync, never before."""
        await self.queue.delete_out(self.flow, taken.position, taken.blobs)

    async def poke_all(self) -> None:
        """Poke every open task, and open again what the queue has lost: call it every `REPOKE_S`, and `take` in between."""
        for task_id in list(self._open):
            await self._check(task_id, await self.queue.poke(self.flow, task_id))

    # ------------------------------------------------------------ one entry

    async def _accept(self, entry: OutEntry) -> Delivery | None:
        held = self._open.get(entry.envelope.task_id)
        if held is None:
            return None
        start, end = row_range(entry.envelope, held.next_row)
        if start < held.next_row and end <= held.next_row:
            return None
        if start != held.next_row:
            await self._ask_again(held)
            return None
        inlined = await self._inlined(entry.envelope)
        if inlined is None:
            await self._ask_again(held)
            return None
        return self._deliver(held, inlined, start, end)

    def _deliver(self, held: _Open, envelope: teacher_pb2.Envelope, start: int, end: int) -> Delivery:
        held.next_row, held.asked_again = end, False
        if envelope.finished:
            del self._open[envelope.task_id]
        return Delivery(envelope.task_id, start, end, envelope.finished, envelope)

    async def _inlined(self, envelope: teacher_pb2.Envelope) -> teacher_pb2.Envelope | None:
        if envelope.WhichOneof("body") != "blob":
            return envelope
        rows = await self.queue.read_blob(self.flow, envelope.blob)
        if rows is None:
            return None
        inlined = teacher_pb2.Envelope()
        inlined.CopyFrom(envelope)
        inlined.rows.CopyFrom(rows)
        return inlined

    # ------------------------------------------------------------ what got lost

    async def _check(self, task_id: str, info: TaskInfo | None) -> None:
        """Compare what the queue knows of an open task with what arrived."""
        held = self._open.get(task_id)
        if held is None:
            return
        if info is None or (info.next_row < held.next_row and info.state not in GIVEN_UP):
            held.asked_again = False
            await self._ask_again(held)
        elif info.next_row > held.next_row or info.state in ENDED:
            self._doubts[task_id] = info

    async def _settle(self, doubts: dict[str, TaskInfo]) -> list[Delivery]:
        """The stream has been read to its end since these tasks were seen further than here: what did not come is lost.

        A stream that lost entries may have been made anew, with lower positions if a clock went back: read it from its start.
        """
        told: list[Delivery] = []
        for task_id, info in doubts.items():
            held = self._open.get(task_id)
            if held is None:
                continue
            if info.state in GIVEN_UP:
                told.append(self._give_up(held, info))
            elif info.state is TaskState.FINISHED or info.next_row > held.next_row:
                held.asked_again, self.position = False, OUT_START
                await self._ask_again(held)
        return told

    async def _ask_again(self, held: _Open) -> None:
        if not held.asked_again:
            held.asked_again = True
            await self._subscribe(held.task)
            await self.queue.reopen(self.flow, held.task, held.next_row)

    def _give_up(self, held: _Open, info: TaskInfo) -> Delivery:
        """The result that said so was lost; the queue still knows the reason."""
        del self._open[held.task.task_id]
        error = info.error or common_pb2.ErrorDetail(code=common_pb2.CANCELLED, message="cancelled by somebody else")
        told = teacher_pb2.Envelope(schema=SCHEMA, task_id=held.task.task_id, error=error, finished=True)
        return Delivery(held.task.task_id, held.next_row, held.next_row, True, told)

    async def _subscribe(self, task: teacher_pb2.ScoreTask) -> None:
        if task.WhichOneof("source") == "rollout":
            log = LogName.of(self.flow.tenant, self.flow.job, rollout_id_from_proto(task.rollout))
            await self.queue.subscribe(log, Subscriber(self.flow.teacher, task.task_id))
