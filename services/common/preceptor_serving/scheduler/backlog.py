"""What waits: tasks by flow in deadline order, with totals, and the index of what expires next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from preceptor_serving.scheduler.ranking import Ranking
from preceptor_serving.scheduler.types import FlowKey, QueueLimits, Task


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued task and what it needs to find its place again after an engine failure."""

    task: Task
    cost: float
    arrival: int
    queued_at_s: float
    popped: bool  # came from a ready source

    @property
    def rank(self) -> tuple[float, float]:
        """Order inside a flow: the earliest deadline, then the first to arrive."""
        return (self.task.deadline_s, self.arrival)


@dataclass(slots=True)
class FlowQueue:
    """One flow's waiting tasks and their sums."""

    order: Ranking[str] = field(default_factory=Ranking)
    cost: float = 0.0
    tokens: int = 0
    popped: int = 0


@dataclass(frozen=True, slots=True)
class FullLimit:
    """The bound that a new task would break, and by how much the queue has to shrink first."""

    name: str
    value: int  # what the queue would hold
    limit: int
    excess_cost: float
    of_flow: bool


class Backlog:
    """All waiting tasks. Adding, removing and finding the next of a flow cost O(log n)."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._waiting: dict[str, Waiting] = {}
        self._flows: dict[FlowKey, FlowQueue] = {}
        self._expiry: Ranking[str] = Ranking()
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._waiting

    def flows(self) -> Iterator[tuple[FlowKey, FlowQueue]]:
        """Every flow that has a waiting task."""
        return iter(self._flows.items())

    def flow(self, flow: FlowKey) -> FlowQueue | None:
        """The flow's queue, or None when nothing of it waits."""
        return self._flows.get(flow)

    def get(self, task_id: str) -> Waiting | None:
        """The waiting task of this id, if there is one."""
        return self._waiting.get(task_id)

    def add(self, waiting: Waiting) -> None:
        """Queue a task at its rank."""
        task = waiting.task
        queue = self._flows.setdefault(task.flow, FlowQueue())
        self._waiting[task.task_id] = waiting
        queue.order.put(task.task_id, waiting.rank)
        if task.deadline_s < math.inf:
            self._expiry.put(task.task_id, waiting.rank)
        self._count(queue, waiting, 1)

    def remove(self, task_id: str) -> Waiting | None:
        """Take a task out, wherever it stands; None when it does not wait."""
        waiting = self._waiting.pop(task_id, None)
        if waiting is None:
            return None
        queue = self._flows[waiting.task.flow]
        queue.order.discard(task_id)
        self._expiry.discard(task_id)
        self._count(queue, waiting, -1)
        if not queue.order:
            del self._flows[waiting.task.flow]
        return waiting

    def head(self, flow: FlowKey) -> Waiting | None:
        """The flow's next task."""
        queue = self._flows.get(flow)
        task_id = queue.order.first() if queue is not None else None
        return None if task_id is None else self._waiting[task_id]

    def first_expired(self, now_s: float) -> Waiting | None:
        """The waiting task whose deadline passed first, or None."""
        task_id = self._expiry.first()
        if task_id is None or self._waiting[task_id].task.deadline_s > now_s:
            return None
        return self._waiting[task_id]

    def tasks_before(self, flow: FlowKey, rank: tuple[float, float]) -> list[Waiting]:
        """The flow's tasks that go before this rank. Reads the whole flow: for people who ask, not for dispatch."""
        queue = self._flows.get(flow)
        return [w for w in map(self._waiting.__getitem__, queue.order) if w.rank < rank] if queue is not None else []

    def oldest_s(self, flow: FlowKey) -> float | None:
        """When the flow's longest waiting task came. Reads the whole flow, too."""
        queue = self._flows.get(flow)
        return min((self._waiting[task_id].queued_at_s for task_id in queue.order), default=None) if queue is not None else None

    def full(self, task: Task, cost: float) -> FullLimit | None:
        """The first bound that adding this task would break, or None when there is room."""
        queue = self._flows.get(task.flow)
        flow_tasks, flow_tokens = (len(queue.order), queue.tokens) if queue is not None else (0, 0)
        asked, bounds = task.work.batch_tokens, self._limits
        task_room = bounds.flow_room(bounds.total_tasks, len(self._waiting) - flow_tasks)
        measures = (
            ("total_tasks", len(self._waiting) + 1, bounds.total_tasks),
            ("total_tokens", self.tokens + asked, bounds.total_tokens),
            ("flow_tasks", flow_tasks + 1, min(bounds.flow_tasks, task_room)),
            ("flow_tokens", flow_tokens + asked, bounds.flow_tokens),
        )
        for name, value, limit in measures:
            if value > limit:
                excess = cost if name.endswith("tasks") else value - limit
                return FullLimit(name, value, limit, excess, of_flow=name.startswith("flow"))
        return None

    def _count(self, queue: FlowQueue, waiting: Waiting, sign: int) -> None:
        tokens = sign * waiting.task.work.batch_tokens
        self.tokens += tokens
        queue.tokens += tokens
        queue.cost += sign * waiting.cost
        queue.popped += sign * waiting.popped
