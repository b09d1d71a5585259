"""The queues under comparison behind one small interface: the real scheduler in two set-ups, FIFO, and shortest job first."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

from benchmarks.sharing.traffic import RULE, Request
from preceptor_serving.scheduler import MemoryClocks, MemoryReady, QueueLimits, Scheduler, Task, Work
from preceptor_serving.scheduler.ranking import Ranking

BUDGET_TOKENS, MAX_TASKS = 8_192, 64
ROOMY = QueueLimits(flow_tasks=10**6, flow_tokens=10**9, total_tasks=10**6, total_tokens=10**9)  # nobody is refused here


class Queue(Protocol):
    """What the modelled teacher pulls from."""

    def submit(self, request: Request, now_s: float) -> None: ...
    def next_batch(self, worker: int, now_s: float) -> tuple[Task, ...]: ...
    def finish(self, worker: int, task_id: str, now_s: float, spent: Work) -> None: ...


class OneScheduler:
    """All workers pull from one scheduler in one process."""

    def __init__(self, workers: int) -> None:
        self._scheduler = Scheduler(RULE, limits=ROOMY)

    def submit(self, request: Request, now_s: float) -> None:
        self._scheduler.submit(request.task, now_s)

    def next_batch(self, worker: int, now_s: float) -> tuple[Task, ...]:
        return self._scheduler.next_batch(now_s, budget_tokens=BUDGET_TOKENS, max_tasks=MAX_TASKS).tasks

    def finish(self, worker: int, task_id: str, now_s: float, spent: Work) -> None:
        self._scheduler.finish(task_id, now_s, spent)


class SharedClocks:
    """Each worker has its own scheduler; clocks and ready work are shared, as they are through Redis."""

    def __init__(self, workers: int) -> None:
        self._ready = MemoryReady()
        clocks = MemoryClocks()
        self._schedulers = [Scheduler(RULE, clocks=clocks, source=self._ready, limits=ROOMY) for _ in range(workers)]

    def submit(self, request: Request, now_s: float) -> None:
        self._ready.add(request.task)

    def next_batch(self, worker: int, now_s: float) -> tuple[Task, ...]:
        return self._schedulers[worker].next_batch(now_s, budget_tokens=BUDGET_TOKENS, max_tasks=MAX_TASKS).tasks

    def finish(self, worker: int, task_id: str, now_s: float, spent: Work) -> None:
        self._schedulers[worker].finish(task_id, now_s, spent)


class OneLine:
    """One queue for everybody in one fixed order, batched like ours."""

    def __init__(self, rank: Callable[[Task], float]) -> None:
        self._rank = rank
        self._arrivals = itertools.count()
        self._order: Ranking[str] = Ranking()
        self._tasks: dict[str, Task] = {}

    def submit(self, request: Request, now_s: float) -> None:
        task = request.task
        self._tasks[task.task_id] = task
        self._order.put(task.task_id, (self._rank(task), next(self._arrivals)))

    def next_batch(self, worker: int, now_s: float) -> tuple[Task, ...]:
        picked: list[Task] = []
        room = BUDGET_TOKENS
        while len(picked) < MAX_TASKS and (task_id := self._order.first()) is not None:
            task = self._tasks[task_id]
            if picked and task.work.batch_tokens > room:
                break
            self._order.discard(task_id)
            picked.append(self._tasks.pop(task_id))
            room -= task.work.batch_tokens
        return tuple(picked)

    def finish(self, worker: int, task_id: str, now_s: float, spent: Work) -> None:
        """This queue keeps no accounts."""


def fifo(workers: int) -> OneLine:
    """First come, first served: what a shared queue does when nobody thinks about it."""
    return OneLine(lambda task: 0.0)


def shortest_first(workers: int) -> OneLine:
    """Least mean latency; starves long tasks."""
    return OneLine(lambda task: RULE.cost(task.work))
