"""A teacher in virtual time: workers that take batches from a queue and need time in proportion to their true cost.

Each worker takes its next batch as a real one does, shortly before the one that it has is expected to end.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.sharing.queues import BUDGET_TOKENS, Queue
from benchmarks.sharing.traffic import RULE, Request
from preceptor_serving.scheduler import Task, Work
from preceptor_serving.scheduler.pace import Pace

COST_PER_S = 20_000.0
BATCH_START_S = 0.01  # what every engine call costs before its first token
ROUNDING_S = 1e-9
CALLS_IN_FLIGHT, LOOK_AHEAD_S = 2, 0.02  # as in the teacher's `PoolPolicy`
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


@dataclass(slots=True)
class Worker:
    """One engine: the batch that it computes, and those that it has been sent beside it."""

    pace: Pace = field(default_factory=lambda: Pace(CALLS_IN_FLIGHT, LOOK_AHEAD_S))
    sent: deque[tuple[int, tuple[Task, ...]]] = field(default_factory=deque)  # number and tasks, in order
    began_s: float = 0.0  # the first of them
    wakes_s: float = math.inf  # when it should be sent the next one


class Teacher:
    """Runs one queue through one list of requests."""

    def __init__(self, queue: Queue, workers: int) -> None:
        self._queue = queue
        self._workers = [Worker() for _ in range(workers)]
        self._ends: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._truth: dict[str, Request] = {}
        self.run = Run()

    def serve(self, requests: Sequence[Request], until_s: float = math.inf) -> Run:
        """Until everything is done, or until the given time."""
        waiting = iter(requests)
        arriving = next(waiting, None)
        while arriving is not None or self._ends:
            now_s = min(self._next_s(), arriving.at_s if arriving is not None else math.inf)
            if now_s > until_s:
                return self._cut(until_s)
            while arriving is not None and arriving.at_s <= now_s:
                self._arrive(arriving)
                arriving = next(waiting, None)
            while self._ends and self._ends[0][0] <= now_s:
                self._end(*heapq.heappop(self._ends))
            self._send(now_s)
            self.run.end_s = now_s
        return self.run

    def _next_s(self) -> float:
        """When something happens by itself."""
        end_s = self._ends[0][0] if self._ends else math.inf
        return min(end_s, *(worker.wakes_s for worker in self._workers))

    def _cut(self, now_s: float) -> Run:
        """Stops in the middle: batches under way count as busy time, not as service."""
        self.run.end_s = now_s
        self.run.busy_s += sum(now_s - worker.began_s for worker in self._workers if worker.sent)
        return self.run

    def _arrive(self, request: Request) -> None:
        self._truth[request.task.task_id] = request
        self._queue.submit(request, request.at_s)

    def _send(self, now_s: float) -> None:
        """To each worker what it should have by now."""
        for place, worker in enumerate(self._workers):
            pause_s = worker.pace.pause_s(now_s)
            while pause_s is not None and pause_s < ROUNDING_S:
                batch = self._queue.next_batch(place, now_s)
                if not batch:
                    break
                self._take(place, batch, now_s)
                pause_s = worker.pace.pause_s(now_s)
            worker.wakes_s = now_s + pause_s if pause_s is not None and pause_s >= ROUNDING_S else math.inf

    def _take(self, place: int, batch: tuple[Task, ...], now_s: float) -> None:
        worker, number = self._workers[place], next(self._numbers)
        worker.pace.begun(number, sum(task.work.batch_tokens for task in batch), now_s)
        worker.sent.append((number, batch))
        for task in batch:
            self.run.dispatched_s[task.task_id] = now_s
        if len(worker.sent) == 1:
            self._begin(place, now_s)

    def _begin(self, place: int, now_s: float) -> None:
        worker = self._workers[place]
        worker.began_s = now_s
        cost = sum(RULE.cost(self._truth[task.task_id].truth) for task in worker.sent[0][1])
        heapq.heappush(self._ends, (now_s + BATCH_START_S + cost / COST_PER_S, place))

    def _end(self, now_s: float, place: int) -> None:
        worker = self._workers[place]
        number, batch = worker.sent.popleft()
        worker.pace.ended(number, now_s, finished=True)
        self.run.busy_s += now_s - worker.began_s
        for task in batch:
            truth = self._truth[task.task_id].truth
            self._queue.finish(place, task.task_id, now_s, truth)
            self.run.done_s[task.task_id] = now_s
            self.run.served[task.flow.job] = self.run.served.get(task.flow.job, 0.0) + RULE.cost(truth)
        if worker.sent:
            self._begin(place, now_s)
