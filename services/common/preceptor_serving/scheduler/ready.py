"""Work that waits outside this process, such as the Redis-ready tasks of a teacher."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from preceptor_serving.scheduler.ranking import Ranking
from preceptor_serving.scheduler.types import FlowKey, Task


@dataclass(frozen=True, slots=True)
class ReadyFlow:
    """A flow that has work outside, and how much."""

    flow: FlowKey
    weight: float
    tasks: int


class ReadySource(Protocol):
    """What a worker can see and take of the work outside. Both calls answer at once, from what the edge has fetched."""

    def peek(self) -> Sequence[ReadyFlow]:
        """Flows with ready work. Looked at once per batch."""
        ...

    def pop(self, flow: FlowKey) -> Task | None:
        """Take this flow's next task; from now on it is this worker's. None when others were faster."""
        ...


class NothingOutside:
    """The source of a worker whose only work comes through its own doors."""

    def peek(self) -> Sequence[ReadyFlow]:
        """No flows."""
        return ()

    def pop(self, flow: FlowKey) -> Task | None:
        """No task, whatever the flow."""
        return None


class MemoryReady:
    """Ready work in memory that several schedulers of one process can pop from, by deadline, then arrival."""

    def __init__(self) -> None:
        self._arrivals = itertools.count()
        self._tasks: dict[str, Task] = {}
        self._order: dict[FlowKey, Ranking[str]] = {}
        self._weights: dict[FlowKey, float] = {}

    def add(self, task: Task) -> None:
        """Make a task ready."""
        self._tasks[task.task_id] = task
        self._weights[task.flow] = task.weight
        self._order.setdefault(task.flow, Ranking()).put(task.task_id, (task.deadline_s, next(self._arrivals)))

    def peek(self) -> Sequence[ReadyFlow]:
        """Flows with ready work, in the order in which they appeared."""
        return [ReadyFlow(flow, self._weights[flow], len(order)) for flow, order in self._order.items()]

    def pop(self, flow: FlowKey) -> Task | None:
        """The flow's next task, gone from here."""
        order = self._order.get(flow)
        task_id = order.first() if order is not None else None
        if order is None or task_id is None:
            return None
        order.discard(task_id)
        if not order:
            del self._order[flow], self._weights[flow]
        return self._tasks.pop(task_id)
