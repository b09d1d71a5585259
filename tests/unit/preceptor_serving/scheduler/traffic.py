"""Drives real schedulers with backlogged flows, several workers and wrong estimates, and keeps the true account."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from preceptor_serving.scheduler import CostRule, FlowKey, MemoryClocks, MemoryReady, Scheduler, Task, Work

RULE = CostRule(row_cost_tokens=0.25)


def flow_key(job: str, band: int = 1) -> FlowKey:
    return FlowKey("teacher", "tenant", job, band)


@dataclass
class Account:
    """Per flow: true cost dispatched, the largest task, and the largest misestimate ever in flight."""

    served: dict[FlowKey, float] = field(default_factory=dict)
    largest: dict[FlowKey, float] = field(default_factory=dict)
    wrong: dict[FlowKey, float] = field(default_factory=dict)
    most_wrong: dict[FlowKey, float] = field(default_factory=dict)

    def dispatched(self, flow: FlowKey, true_cost: float, error: float) -> None:
        self.served[flow] = self.served.get(flow, 0.0) + true_cost
        self.largest[flow] = max(self.largest.get(flow, 0.0), true_cost, true_cost + error)
        self.wrong[flow] = self.wrong.get(flow, 0.0) + abs(error)
        self.most_wrong[flow] = max(self.most_wrong.get(flow, 0.0), self.wrong[flow])

    def settled(self, flow: FlowKey, error: float) -> None:
        self.wrong[flow] -= abs(error)


@dataclass
class Pool:
    """Some workers in front of one scheduler, or each with its own scheduler over shared clocks and shared ready work."""

    workers: int
    shared: bool
    seed: int
    wrong_by: float = 0.0  # estimates are off by up to this share of the truth
    failures: float = 0.0  # share of batches whose engine dies
    budget_tokens: int = 600

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.account = Account()
        self.ready = MemoryReady()
        clocks = MemoryClocks()
        count = self.workers if self.shared else 1
        source = self.ready if self.shared else None
        self.schedulers = [Scheduler(RULE, clocks=clocks, source=source) for _ in range(count)]
        self.true_work: dict[str, Work] = {}
        self.in_flight: list[list[Task]] = [[] for _ in range(self.workers)]
        self.waiting: dict[FlowKey, int] = {}
        self.sent = 0
        self.now_s = 0.0

    def submit(self, flow: FlowKey, weight: float, new_tokens: int) -> None:
        truth = Work(new_tokens, rows=new_tokens // 2)
        guess = max(1, round(new_tokens * (1 + self.wrong_by * self.random.uniform(-1, 1))))
        task = Task(f"t{self.sent}", flow, Work(guess, truth.rows), weight)
        self.sent += 1
        self.true_work[task.task_id] = truth
        self.waiting[flow] = self.waiting.get(flow, 0) + 1
        if self.shared:
            self.ready.add(task)
        else:
            self.schedulers[0].submit(task, self.now_s)

    def keep_backlogged(self, weights: dict[FlowKey, float], sizes: Sequence[int], depth: int) -> None:
        """Every one of these flows has at least ``depth`` tasks waiting."""
        for flow, weight in weights.items():
            while self.waiting.get(flow, 0) < depth:
                self.submit(flow, weight, self.random.choice(sizes))

    def turn(self, worker: int) -> list[Task]:
        """The worker's last batch ends, its next one starts."""
        self.now_s += 1.0
        scheduler = self.schedulers[worker if self.shared else 0]
        self._end(scheduler, worker)
        batch = scheduler.next_batch(self.now_s, budget_tokens=self.budget_tokens, max_tasks=64)
        self.in_flight[worker] = list(batch.tasks)
        for task in batch.tasks:
            self.waiting[task.flow] -= 1
            self.account.dispatched(task.flow, RULE.cost(self.true_work[task.task_id]), self._error(task))
        return list(batch.tasks)

    def _error(self, task: Task) -> float:
        return RULE.cost(task.work) - RULE.cost(self.true_work[task.task_id])

    def _end(self, scheduler: Scheduler, worker: int) -> None:
        dies = self.random.random() < self.failures
        for task in self.in_flight[worker]:
            self.account.settled(task.flow, self._error(task))
            if dies:
                scheduler.requeue([task.task_id], self.now_s)
                self.waiting[task.flow] += 1
                self.account.served[task.flow] -= RULE.cost(self.true_work[task.task_id])
            else:
                scheduler.finish(task.task_id, self.now_s, self.true_work[task.task_id])
        self.in_flight[worker] = []


def gap_range(gaps: Sequence[float]) -> float:
    """The largest change of the gap over any interval: the unfairness between two flows."""
    return max(gaps) - min(gaps)
