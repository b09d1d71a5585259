"""Grading through the queue: a request becomes a task of texts, its reply one entry of the job's results.

A task's name is the digest of what it asks. Whoever asks the same again, also after a restart, or after the queue was lost, finds
the task that is under way, or its result; where both are gone, the task is opened again, and what the judge answered before is in
its own memory of calls. A job and teacher have one reader, as everywhere in the queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from preceptor.error_details import error_of
from preceptor.errors import Cancelled, DeadlineExceeded, PreceptorError, TooLarge
from preceptor.limits import check
from preceptor.queue.envelopes import SCHEMA_OF_TEXTS
from preceptor.queue.keys import Flow
from preceptor.queue.learner import REPOKE_S, ScoreStream
from preceptor.queue.protocol import Queue
from preceptor.queue.types import OUT_START, TaskState
from preceptor_proto.v1 import teacher_pb2

MOST_BYTES = 64 << 20  # of a request: a door's default, and far below what a server takes as one value
READ_S = 1.0
CANCEL_S = 2.0
DEADLINE = "deadline_unix_ms"
DOMAIN = b"preceptor grade task 1\n"


class GradeQueue:
    """Asks teachers that grade through a queue. Made and used inside one event loop; `close` leaves the queue open."""

    def __init__(self, queue: Queue, tenant: str, *, deadline_s: float) -> None:
        self._queue, self._tenant, self._deadline_s = queue, tenant, deadline_s
        self._own_job = f"grade-{secrets.token_hex(8)}"  # of requests that name none: no other process reads its results
        self._readers: dict[Flow, GradeReader] = {}

    async def grade(self, request: teacher_pb2.GradeRequest, *, deadline_s: float | None = None) -> teacher_pb2.GradeReply:
        """One verdict or error for each item, in order; what is wrong with the whole request is raised, as at any door."""
        check(request)
        if (size := request.ByteSize()) > MOST_BYTES:
            raise TooLarge(
                f"the request has {size} bytes",
                field="items",
                value=f"{size} bytes",
                limit=f"<= {MOST_BYTES} bytes",
                hint="ask for fewer texts at once",
            )
        flow = Flow(request.teacher.teacher, self._tenant, request.job or self._own_job)
        reader = self._readers.setdefault(flow, GradeReader(self._queue, flow))
        return await reader.ask(request, self._deadline_s if deadline_s is None else deadline_s)

    async def close(self) -> None:
        """What is still open is taken back."""
        await asyncio.gather(*(reader.close() for reader in self._readers.values()))


@dataclass(slots=True)
class _Asked:
    """One open task, and how many wait for it."""

    task: teacher_pb2.ScoreTask
    reply: asyncio.Future[teacher_pb2.Envelope]
    opening: asyncio.Task[None]  # nobody's own: who asked first may go, and the others wait for the same
    waiting: int = 0


@dataclass(slots=True)
class GradeReader:
    """The open tasks of one job at one teacher. It reads as long as somebody waits."""

    queue: Queue
    flow: Flow
    _stream: ScoreStream = field(init=False)
    _asked: dict[str, _Asked] = field(init=False, default_factory=dict[str, _Asked])
    _leaving: set[str] = field(init=False, default_factory=set[str])  # about to be cancelled, though the queue may not say so yet
    _reading: asyncio.Task[None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._stream = ScoreStream(self.queue, self.flow)

    async def ask(self, request: teacher_pb2.GradeRequest, deadline_s: float) -> teacher_pb2.GradeReply:
        """The reply; `DeadlineExceeded` where none came in time."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self._insist(request, int((time.time() + deadline_s) * 1000))
        except TimeoutError as error:
            if isinstance(error, PreceptorError):
                raise
            raise DeadlineExceeded(
                f"no verdict of {self.flow.teacher} came through the queue",
                field="teacher.teacher",
                value=self.flow.teacher,
                limit=f"{deadline_s:g} s",
                hint="see that this is its name, and that a teacher service that has it runs against this queue",
            ) from None

    async def close(self) -> None:
        """Nobody waits any more: what is open is taken back."""
        open_now = list(self._asked.values())
        for asked in open_now:
            self._end(asked.task.task_id, Cancelled("the client of the queue was closed"))
        await asyncio.gather(*map(self._take_back, open_now))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    # ------------------------------------------------------------ one request

    async def _insist(self, request: teacher_pb2.GradeRequest, deadline_unix_ms: int) -> teacher_pb2.GradeReply:
        """An earlier caller's deadline may end the task before this one's: then it is opened once more, under this one's."""
        task = task_of(request, await self._free_name(name_of(request)), deadline_unix_ms)
        while True:
            envelope = await self._envelope(task)
            if envelope.WhichOneof("body") == "grades":
                return envelope.grades
            if _is_final(envelope, deadline_unix_ms):
                raise error_of(envelope.error)

    async def _free_name(self, name: str) -> str:
        """A cancelled task stays cancelled: who asks the same later does so under the next number."""
        for number in count():
            task_id = f"{name}/{number}"
            info = await self.queue.task_info(self.flow, task_id)
            if task_id not in self._leaving and (info is None or info.state is not TaskState.CANCELLED):
                return task_id
        raise AssertionError("numbers do not end")

    async def _envelope(self, task: teacher_pb2.ScoreTask) -> teacher_pb2.Envelope:
        """What ended the task. Who asks the same at once waits for the same task; it is taken back when the last of them goes."""
        asked = self._asked.get(task.task_id) or self._begin(task)
        asked.waiting += 1
        try:
            return await asyncio.shield(asked.reply)
        finally:
            asked.waiting -= 1
            if not asked.waiting and not asked.reply.done():
                await self._take_back(asked)

    def _begin(self, task: teacher_pb2.ScoreTask) -> _Asked:
        opening = asyncio.create_task(self._open(task), name="grade-opening")
        asked = self._asked[task.task_id] = _Asked(task, asyncio.get_running_loop().create_future(), opening)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="grade-results")
        return asked

    async def _open(self, task: teacher_pb2.ScoreTask) -> None:
        try:
            await self._stream.resume(task, 0)
        except Exception as error:  # a defect of ours, too: nobody else would tell whoever waits
            self._end(task.task_id, error)

    async def _take_back(self, asked: _Asked) -> None:
        """Its judge stops as soon as it hears of it; where the queue does not answer, the deadline ends it."""
        name = asked.task.task_id
        self._asked.pop(name, None)
        self._leaving.add(name)
        try:
            with suppress(PreceptorError, TimeoutError):
                async with asyncio.timeout(CANCEL_S):
                    await asyncio.wait([asked.opening])  # what is cancelled first would be opened after it
                    await self._stream.cancel(name)
        finally:
            asked.opening.cancel()
            self._leaving.discard(name)

    # ------------------------------------------------------------ results

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        poke_s = loop.time() + REPOKE_S
        while self._asked:
            try:
                if loop.time() >= poke_s:
                    await self._stream.poke_all()
                    poke_s = loop.time() + REPOKE_S
                await self._take()
            except Exception as error:  # of the queue: each caller knows how long it wants to try
                self._stream = ScoreStream(self.queue, self.flow)
                for name in list(self._asked):
                    self._end(name, error)

    async def _take(self) -> None:
        taken = await self._stream.take(timeout_s=0.0 if self._stream.in_doubt else READ_S)
        for delivery in taken.deliveries:
            self._end(delivery.task_id, delivery.envelope)
        if taken.position != OUT_START:
            await self._stream.acknowledge(taken)

    def _end(self, name: str, outcome: teacher_pb2.Envelope | Exception) -> None:
        asked = self._asked.pop(name, None)
        if asked is None or asked.reply.done():
            return
        if isinstance(outcome, Exception):
            asked.reply.set_exception(outcome)
            asked.reply.exception()  # whoever waits is told by it; with nobody left it is no news
        else:
            asked.reply.set_result(outcome)


def _is_final(envelope: teacher_pb2.Envelope, deadline_unix_ms: int) -> bool:
    """Unless it says that an earlier deadline than this one has passed."""
    value = envelope.error.value
    return envelope.error.field != DEADLINE or not value.isdecimal() or int(value) >= deadline_unix_ms


def name_of(request: teacher_pb2.GradeRequest) -> str:
    """The same for the same questions."""
    return f"grade/{hashlib.sha256(DOMAIN + request.SerializeToString(deterministic=True)).hexdigest()}"


def task_of(request: teacher_pb2.GradeRequest, task_id: str, deadline_unix_ms: int) -> teacher_pb2.ScoreTask:
    """The task that asks what the request asks."""
    return teacher_pb2.ScoreTask(
        schema=SCHEMA_OF_TEXTS,
        task_id=task_id,
        teacher=request.teacher,
        texts=teacher_pb2.GradeItems(items=request.items),
        grade=request.spec,
        deadline_unix_ms=deadline_unix_ms,
        trace=request.job,
    )
