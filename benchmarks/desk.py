"""A learner's side of the queue, for benchmarks: opens score tasks of one job and notes what came back and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.scoring.house import NAME
from preceptor import wire
from preceptor.error_details import error_of
from preceptor.local.stack import Stack
from preceptor.queue import Delivery, Flow, Queue, ScoreStream
from preceptor.queue.learner import REPOKE_S
from preceptor.queue.redis import RedisQueue
from preceptor.types import Ids, RolloutId, Rows, Sequence, Want
from preceptor_proto.v1 import teacher_pb2

READ_S = 1.0


@asynccontextmanager
async def queue_of(stack: Stack) -> AsyncGenerator[RedisQueue]:
    """The stack's queue, as somebody outside sees it."""
    queue = await RedisQueue.connect(stack.queue.url, password=stack.queue.password)
    try:
        yield queue
    finally:
        await queue.close()


@dataclass(slots=True)
class Counts:
    """What the receipts of a job add up to."""

    computed: int = 0
    reused: int = 0
    deliveries: int = 0


@dataclass(slots=True)
class Desk:
    """One job. `collecting` reads in the background; rows are decoded, as a trainer would have them, and kept where asked."""

    queue: Queue
    job: str
    want: Want
    keep: bool = False
    tenant: str = "local"
    finished_s: dict[str, float] = field(default_factory=dict)
    rows: dict[str, list[Rows]] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    _waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _growing: bool = False
    _closed: bool = False
    _stream: ScoreStream = field(init=False)

    def __post_init__(self) -> None:
        self._stream = ScoreStream(self.queue, self.flow)

    @property
    def flow(self) -> Flow:
        return Flow(NAME, self.tenant, self.job)

    async def open_whole(self, name: str, sequence: Sequence) -> None:
        """A task that brings its sequence."""
        await self._stream.open(self._task(name, inline=wire.sequence_to_proto(sequence)))

    async def open_growing(self, name: str, rollout: RolloutId, context: Ids) -> None:
        """A task on the log of a rollout that has not begun."""
        self._growing = True
        log, ids = wire.rollout_id_to_proto(rollout), wire.ids_to_proto(context)
        await self._stream.open(self._task(name, rollout=log, context=ids))

    async def finished(self, names: Iterable[str], within_s: float) -> None:
        """Returns when these tasks have all their rows."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within_s):
            for name in names:
                if name not in self.finished_s:
                    await self._waiting.setdefault(name, loop.create_future())

    @asynccontextmanager
    async def collecting(self) -> AsyncGenerator[None]:
        """Reads results and keeps the tasks alive meanwhile; what goes wrong there is raised here."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._read()), group.create_task(self._keep_alive())]
            yield
            self._closed = True  # a cancellation that comes together with an answer may be swallowed inside redis
            for task in tasks:
                task.cancel()

    def _task(self, name: str, **source: object) -> teacher_pb2.ScoreTask:
        want, teacher = wire.want_to_proto(self.want), wire.choice_to_proto(NAME)
        return teacher_pb2.ScoreTask(schema=1, task_id=name, teacher=teacher, want=want, **source)  # pyright: ignore[reportArgumentType]

    async def _read(self) -> None:
        while not self._closed:
            taken = await self._stream.take(timeout_s=READ_S)
            for delivery in taken.deliveries:
                self._take(delivery)
            if taken.deliveries:
                await self._stream.acknowledge(taken)

    async def _keep_alive(self) -> None:
        """A task that brought its sequence has no writer that could die before it poked."""
        while not self._closed:
            await asyncio.sleep(REPOKE_S)
            if self._growing:
                await self._stream.poke_all()

    def _take(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        if envelope.HasField("error"):
            raise error_of(envelope.error)
        decoded = wire.rows_from_proto(envelope.rows)
        if self.keep:
            self.rows.setdefault(delivery.task_id, []).append(decoded)
        self.counts.computed += envelope.receipt.tokens_computed
        self.counts.reused += envelope.receipt.tokens_reused
        self.counts.deliveries += 1
        if delivery.finished:
            self.finished_s[delivery.task_id] = time.perf_counter()
            waiting = self._waiting.pop(delivery.task_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
