"""A learner and some workers on a queue, busy until every task has arrived; a test does harm in the meantime."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from preceptor.errors import Fenced
from preceptor.queue import Flow, Lease, Queue, ScoreStream, Then
from preceptor_proto.v1 import teacher_pb2
from tests.contract.queue_rig import FLOW, TEACHER, inline_task, rows, tokens_of

TURN_S = 0.05


def tokens_for(task_id: str) -> list[int]:
    """What its teacher answers: told apart from every other task's, of one to forty rows, some of them blobs."""
    number = int(task_id.split("-")[1])
    return [1000 * number + row for row in range(1 + number % 40)]


@dataclass
class Story:
    """`run` ends when everything has arrived; `arrived` counts what did, by task."""

    learner_queue: Queue
    worker_queues: list[Queue]
    tasks: int
    flow: Flow = FLOW
    names: tuple[str, ...] = ("w0", "w1", "w2")
    arrived: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    computed: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    workers_may_start: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.workers_may_start.set()

    async def run(self, harm: Callable[[Story], Awaitable[None]], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
            group.create_task(self._learn())
            for name, queue in zip(self.names, self.worker_queues, strict=False):
                group.create_task(self._work(queue, name))
            group.create_task(harm(self))

    async def reached(self, share: float) -> None:
        """That share of the tasks has arrived."""
        while len(self.arrived) < share * self.tasks:
            self.news.clear()
            await self.news.wait()

    def check(self) -> None:
        """Everything once, and in whole."""
        names = [f"task-{n}" for n in range(self.tasks)]
        assert self.tokens == {name: tokens_for(name) for name in names}
        assert set(self.arrived.values()) == {1}

    async def _learn(self) -> None:
        stream = ScoreStream(self.learner_queue, self.flow)
        opening = asyncio.create_task(self._open(stream))
        while not (opening.done() and not stream.open_tasks):
            taken = await stream.take(timeout_s=TURN_S)
            for each in taken.deliveries:
                self.tokens.setdefault(each.task_id, []).extend(tokens_of(each.envelope))
                if each.finished:
                    self.arrived[each.task_id] += 1
                    self.news.set()
            await stream.acknowledge(taken)
            if not taken.deliveries:
                await stream.poke_all()
        await opening
        self.done.set()

    async def _open(self, stream: ScoreStream) -> None:
        for n in range(self.tasks):
            await stream.open(inline_task(f"task-{n}"))

    async def _work(self, queue: Queue, name: str) -> None:
        await self.workers_may_start.wait()
        while not self.done.is_set():
            leases = [*await queue.lease(self.flow, name, limit=4), *await queue.lease(self.flow, name, alone=True)]
            for lease in leases:
                await self._score(queue, lease)
            if not leases:
                await queue.reclaim(TEACHER)
                await queue.wait_ready(TEACHER, TURN_S)

    async def _score(self, queue: Queue, lease: Lease) -> None:
        self.computed[lease.task_id] += 1
        tokens = tokens_for(lease.task_id)
        half = len(tokens) // 2
        try:
            if lease.next_row < half:
                first: list[teacher_pb2.Envelope] = [rows(lease.next_row, tokens[lease.next_row : half])]
                kept = (await queue.commit(lease, first, 0, Then.KEEP)).lease
                assert kept is not None
                lease = kept
            await queue.commit(lease, [rows(lease.next_row, tokens[lease.next_row :])], 0, Then.FINISH)
        except Fenced:
            return
