"""A teacher in virtual time: workers that take batches from a queue and need time in proportion to their true cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.sharing.queues import BUDGET_TOKENS, Queue
from benchmarks.sharing.traffic import RULE, Request
from preceptor_serving.scheduler import Task, Work

COST_PER_S = 20_000.0
BATCH_START_S = 0.01  # what every engine call costs before its first token
FULL_BATCH_S = BATCH_START_S + RULE.cost(Work(BUDGET_TOKENS, BUDGET_TOKENS // 2)) / COST_PER_S


def pool_cost_per_s(workers: int) -> float:
    """What the workers can serve with full batches."""
    return workers * (FULL_BATCH_S - BATCH_START_S) / FULL_BATCH_S * COST_PER_S


@dataclass
class Run:
    """What happened: when each task was dispatched and done, and the true cost served per job until ``end_s``."""

    end_s: float = 0.0
    busy_s: float = 0.0
    served: dict[str, float] = field(default_factory=dict)
    dispatched_s: dict[str, float] = field(default_factory=dict)
    done_s: dict[str, float] = field(default_factory=dict)

    def delay_s(self, request: Request) -> float:
        """From arrival to result; of a task that is still waiting, the time so far."""
        return self.done_s.get(request.task.task_id, self.end_s) - request.at_s


class Teacher:
    """Runs one queue through one list of requests."""

    def __init__(self, queue: Queue, workers: int) -> None:
        self._queue = queue
        self._idle = list(range(workers))
        self._ends: list[tuple[float, int, tuple[Task, ...]]] = []
        self._truth: dict[str, Request] = {}
        self.run = Run()

    def serve(self, requests: Sequence[Request], until_s: float = math.inf) -> Run:
        """Until everything is done, or until the given time."""
        waiting = iter(requests)
        arriving = next(waiting, None)
        while arriving is not None or self._ends:
            next_end_s = self._ends[0][0] if self._ends else math.inf
            now_s = min(next_end_s, arriving.at_s if arriving is not None else math.inf)
            if now_s > until_s:
                return self._cut(until_s)
            while arriving is not None and arriving.at_s <= now_s:
                self._arrive(arriving)
                arriving = next(waiting, None)
            while self._ends and self._ends[0][0] <= now_s:
                self._end(*heapq.heappop(self._ends))
            self._start(now_s)
            self.run.end_s = now_s
        return self.run

    def _cut(self, now_s: float) -> Run:
        """Stops in the middle: batches under way count as busy time, not as service."""
        self.run.end_s = now_s
        self.run.busy_s += sum(now_s - self.run.dispatched_s[batch[0].task_id] for _, _, batch in self._ends)
        return self.run

    def _arrive(self, request: Request) -> None:
        self._truth[request.task.task_id] = request
        self._queue.submit(request, request.at_s)

    def _start(self, now_s: float) -> None:
        for worker in list(self._idle):
            batch = self._queue.next_batch(worker, now_s)
            if not batch:
                return
            cost = sum(RULE.cost(self._truth[task.task_id].truth) for task in batch)
            for task in batch:
                self.run.dispatched_s[task.task_id] = now_s
            heapq.heappush(self._ends, (now_s + BATCH_START_S + cost / COST_PER_S, worker, batch))
            self._idle.remove(worker)

    def _end(self, now_s: float, worker: int, batch: tuple[Task, ...]) -> None:
        self._idle.append(worker)
        self.run.busy_s += now_s - self.run.dispatched_s[batch[0].task_id]
        for task in batch:
            truth = self._truth[task.task_id].truth
            self._queue.finish(worker, task.task_id, now_s, truth)
            self.run.done_s[task.task_id] = now_s
            self.run.served[task.flow.job] = self.run.served.get(task.flow.job, 0.0) + RULE.cost(truth)
