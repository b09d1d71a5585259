"""Whose texts a teacher that grades reads next: so many at once from all doors, in the order of the one scheduler.

Doors and the queue's worker wait here. Flows, weights, bands and deadlines are those of docs/scheduling.md, a text counting as a
token. How many requests a provider gets at once is its client's business; twice as many texts have their turn, so that it never
waits for the next.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from preceptor.errors import DeadlineExceeded
from preceptor_serving.scheduler.clocks import ClockTable
from preceptor_serving.scheduler.cost import CostRule
from preceptor_serving.scheduler.scheduler import Scheduler
from preceptor_serving.scheduler.types import CancelResult, FlowKey, QueueLimits, Task, Work

AHEAD = 2
BY_TEXTS = CostRule(row_cost_tokens=0.0)
NOTHING = Work(0, 0)


class Turns:
    """Of one teacher. Used inside one event loop; `clocks` are shared with its other services, where there is a queue."""

    def __init__(self, texts_at_once: int, limits: QueueLimits, clocks: ClockTable | None = None) -> None:
        self.texts = AHEAD * texts_at_once
        self._free = self.texts
        self.scheduler = Scheduler(BY_TEXTS, clocks=clocks, limits=limits)
        self._gates: dict[str, asyncio.Future[None]] = {}
        self._numbers = itertools.count()

    def start_tag(self, flow: FlowKey) -> float:
        """Where the flow's next request would stand in its band."""
        return self.scheduler.start_tag(flow)

    @asynccontextmanager
    async def turn(self, flow: FlowKey, texts: int, weight: float, deadline_s: float = math.inf) -> AsyncGenerator[None]:
        """A block that begins when it is this request's turn; the last one let in may be larger than the room that is left.

        `Exhausted` where too many wait. A deadline that passes while it waits is `DeadlineExceeded`; inside the block it is
        the caller's part to keep it.
        """
        task = Task(f"grade-{next(self._numbers)}", flow, Work(texts, 0), weight, deadline_s)
        self.scheduler.submit(task, _now_s())
        gate = self._gates[task.task_id] = asyncio.get_running_loop().create_future()
        try:
            self._let_in()
            await gate
            yield
        finally:
            self._leave(task)
            self._let_in()

    def _let_in(self) -> None:
        while self._free > 0 and (batch := self.scheduler.next_batch(_now_s(), budget_tokens=self._free, max_tasks=1)):
            self._free -= batch.batch_tokens
            gate = self._gates[batch.tasks[0].task_id]
            if not gate.done():  # else it has just given up, and leaves as soon as it runs
                gate.set_result(None)
        for dropped in self.scheduler.take_dropped():
            gate = self._gates.get(dropped.task.task_id)  # None: it has given up by itself
            if gate is not None and not gate.done():
                gate.set_exception(DeadlineExceeded("its turn did not come before the deadline"))

    def _leave(self, task: Task) -> None:
        """Had it its turn, it pays; had it not, it is forgotten."""
        gate = self._gates.pop(task.task_id)
        if self.scheduler.cancel(task.task_id, _now_s()) is CancelResult.RUNNING:
            self.scheduler.finish(task.task_id, _now_s(), NOTHING if gate.cancelled() else task.work)
            self._free += task.work.new_tokens


def _now_s() -> float:
    return asyncio.get_running_loop().time()
