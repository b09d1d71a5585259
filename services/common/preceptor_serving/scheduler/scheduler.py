"""The one scheduler: tasks in, fair batches out. A pure state machine, explained in docs/scheduling.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from preceptor.errors import Conflict, Exhausted, NotFound
from preceptor_serving.scheduler.backlog import Backlog, FullLimit, Waiting
from preceptor_serving.scheduler.clocks import ClockTable, MemoryClocks
from preceptor_serving.scheduler.cost import CostRule
from preceptor_serving.scheduler.estimate import FlowLoad, FlowStanding, QueueEstimate, RateMeter, served_before
from preceptor_serving.scheduler.order import FairOrder
from preceptor_serving.scheduler.ready import NothingOutside, ReadyFlow, ReadySource
from preceptor_serving.scheduler.refusal import refusal, too_large
from preceptor_serving.scheduler.types import (
    Batch,
    CancelResult,
    Dropped,
    DropReason,
    FlowKey,
    QueueLimits,
    Settlement,
    Task,
    Work,
)

LOWER_BAND_SHARE = 0.05


@dataclass(slots=True)
class Running:
    """A task on an engine, and the charge that is to be settled."""

    waiting: Waiting
    weight: float
    started_s: float
    cancelled: bool = False


class Scheduler:
    """Orders the work of one pool of engines. Any number of engine workers may pull from it.

    Every method takes the time and returns at once. ``clocks`` and ``source`` are shared with other processes where there are
    several; without them everything is in memory.
    """

    def __init__(
        self,
        cost_rule: CostRule,
        *,
        clocks: ClockTable | None = None,
        source: ReadySource | None = None,
        limits: QueueLimits | None = None,
        lower_band_share: float = LOWER_BAND_SHARE,
    ) -> None:
        self._cost_rule = cost_rule
        self._limits = limits or QueueLimits()
        self._source = source or NothingOutside()
        self._backlog = Backlog(self._limits)
        self._order = FairOrder(clocks if clocks is not None else MemoryClocks(), lower_band_share=lower_band_share)
        self._outside: dict[FlowKey, ReadyFlow] = {}
        self._running: dict[str, Running] = {}
        self._dropped: list[Dropped] = []
        self._arrivals = itertools.count()
        self._meter = RateMeter()

    # ---- work comes in

    def submit(self, task: Task, now_s: float) -> None:
        """Queue a task, or raise `Exhausted` with its place and the time after which room is expected."""
        if task.task_id in self._backlog or task.task_id in self._running:
            raise Conflict("a task of this id is already here", field="task_id", value=task.task_id)
        self.expire(now_s)
        waiting = self._wait(task, now_s, popped=False)
        if task.work.batch_tokens > min(self._limits.flow_tokens, self._limits.total_tokens):
            raise too_large(task, self._limits)
        full = self._backlog.full(task, waiting.cost)
        if full is not None:
            raise self._refuse(full, task)
        self._add(waiting)

    def cancel(self, task_id: str, now_s: float) -> CancelResult:
        """Make sure that the task is not computed (again)."""
        waiting = self._backlog.remove(task_id)
        if waiting is not None:
            self._drop(waiting.task, DropReason.CANCELLED, now_s)
            return CancelResult.DROPPED
        running = self._running.get(task_id)
        if running is None:
            return CancelResult.UNKNOWN
        running.cancelled = True
        return CancelResult.RUNNING

    def expire(self, now_s: float) -> None:
        """Drop every waiting task whose deadline has come."""
        while (waiting := self._backlog.first_expired(now_s)) is not None:
            self._backlog.remove(waiting.task.task_id)
            self._drop(waiting.task, DropReason.EXPIRED, now_s)

    # ---- work goes out

    def next_batch(self, now_s: float, *, budget_tokens: int, max_tasks: int) -> Batch:
        """The next tasks in fair order until one does not fit. Empty when nothing waits."""
        self.expire(now_s)
        self._look_outside()
        self._order.arrange()
        tasks: list[Task] = []
        used = 0
        while len(tasks) < max_tasks and (waiting := self._head(now_s)) is not None:
            task = waiting.task
            alone = task.suspect or task.work.batch_tokens > budget_tokens
            if tasks and (alone or used + task.work.batch_tokens > budget_tokens):
                break
            self._start(waiting, now_s)
            tasks.append(task)
            used += task.work.batch_tokens
            if alone:
                break
        self._order.commit(now_s)
        return Batch(tuple(tasks), used)

    def finish(self, task_id: str, now_s: float, spent: Work) -> Settlement:
        """Settle a task that ran to an end, good or bad: its flow pays what was spent, not what was estimated."""
        running = self._end(task_id)
        waiting, cost = running.waiting, self._cost_rule.cost(spent)
        self._order.settle(waiting.task.flow, running.weight, cost - waiting.cost)
        self._meter.ended(now_s, waiting.cost, cost, finished=True)
        return Settlement(
            task=waiting.task,
            estimated_cost=waiting.cost,
            cost=cost,
            recomputed_tokens=spent.recomputed_tokens,
            queued_s=running.started_s - waiting.queued_at_s,
            ran_s=now_s - running.started_s,
        )

    def requeue(self, task_ids: Iterable[str], now_s: float, *, suspect: bool = False) -> None:
        """Put tasks of a failed batch back at their old places, uncharged. Cancelled ones end here."""
        for task_id in task_ids:
            running = self._end(task_id)
            waiting = running.waiting
            self._order.settle(waiting.task.flow, running.weight, -waiting.cost)
            self._meter.ended(now_s, waiting.cost, 0.0, finished=False)
            if running.cancelled:
                self._drop(waiting.task, DropReason.CANCELLED, now_s)
            else:
                self._add(replace(waiting, task=replace(waiting.task, suspect=suspect or waiting.task.suspect)))

    # ---- what is told

    def take_dropped(self) -> tuple[Dropped, ...]:
        """The tasks that ended without being computed since the last call."""
        dropped, self._dropped = tuple(self._dropped), []
        return dropped

    def estimate(self, task_id: str) -> QueueEstimate:
        """The place of a waiting task; `NotFound` when it does not wait."""
        waiting = self._backlog.get(task_id)
        if waiting is None:
            raise NotFound("no such task is waiting", field="task_id", value=task_id)
        task = waiting.task
        before = self._backlog.tasks_before(task.flow, waiting.rank)
        cost = sum(earlier.cost for earlier in before)
        own = FlowLoad(task.flow.band, task.weight, self._order.start(task.flow), cost, len(before))
        return self._place(task.flow, own)

    def loads(self) -> dict[FlowKey, FlowLoad]:
        """Every flow that has work waiting, here or outside, as it stands."""
        found: dict[FlowKey, FlowLoad] = {}
        for flow, queue in self._backlog.flows():
            found[flow] = FlowLoad(flow.band, self._order.weight(flow), self._order.start(flow), queue.cost, len(queue.order))
        for flow, ready in self._outside.items():
            here = found.get(flow) or FlowLoad(flow.band, ready.weight, self._order.start(flow), 0.0, 0)
            outside_cost = ready.tasks * self._meter.cost_per_task
            found[flow] = here._replace(cost=here.cost + outside_cost, tasks=here.tasks + ready.tasks)
        return found

    def start_tag(self, flow: FlowKey) -> float:
        """Where a flow's next task would stand in its band: the lowest is served first."""
        return self._order.start(flow)

    def standings(self, now_s: float) -> dict[FlowKey, FlowStanding]:
        """Every flow that has work waiting, and how it stands among the others. For people: it reads the whole queue."""
        return {flow: self._standing(flow, load, now_s) for flow, load in self.loads().items()}

    @property
    def cost_per_s(self) -> float | None:
        """The pool's speed over about the last minute of busy time; None before anything was timed."""
        return self._meter.cost_per_s

    @property
    def waiting_tasks(self) -> int:
        """Tasks queued here."""
        return len(self._backlog)

    @property
    def waiting_tokens(self) -> int:
        """Batch tokens queued here."""
        return self._backlog.tokens

    @property
    def running_tasks(self) -> int:
        """Tasks on engines."""
        return len(self._running)

    # ---- inside

    def _wait(self, task: Task, now_s: float, *, popped: bool) -> Waiting:
        return Waiting(task, self._cost_rule.cost(task.work), next(self._arrivals), now_s, popped)

    def _add(self, waiting: Waiting) -> None:
        self._backlog.add(waiting)
        self._order.enter(waiting.task.flow, waiting.task.weight)

    def _drop(self, task: Task, reason: DropReason, now_s: float) -> None:
        self._dropped.append(Dropped(task, reason, now_s))
        self._rest(task.flow)

    def _rest(self, flow: FlowKey) -> None:
        """A flow without work leaves the order; while it is in there, it can be served."""
        if self._backlog.flow(flow) is None and flow not in self._outside:
            self._order.leave(flow)

    def _look_outside(self) -> None:
        before, self._outside = self._outside, {ready.flow: ready for ready in self._source.peek()}
        for flow in before:
            self._rest(flow)
        for flow, ready in self._outside.items():
            self._order.enter(flow, ready.weight)

    def _head(self, now_s: float) -> Waiting | None:
        """The next task in fair order; a flow with work outside first brings one task of it here."""
        while (flow := self._order.first()) is not None:
            queue = self._backlog.flow(flow)
            if flow in self._outside and (queue is None or not queue.popped):
                self._pop(flow, now_s)
                continue
            return self._backlog.head(flow)
        return None

    def _pop(self, flow: FlowKey, now_s: float) -> None:
        task, ready = self._source.pop(flow), self._outside.pop(flow)
        if task is not None and ready.tasks > 1:
            self._outside[flow] = replace(ready, tasks=ready.tasks - 1)
        if task is None:
            self._rest(flow)
        elif task.task_id in self._backlog or task.task_id in self._running:
            self._drop(task, DropReason.DUPLICATE, now_s)
        elif task.deadline_s <= now_s:
            self._drop(task, DropReason.EXPIRED, now_s)
        else:
            self._add(self._wait(task, now_s, popped=True))

    def _start(self, waiting: Waiting, now_s: float) -> None:
        task = waiting.task
        self._backlog.remove(task.task_id)
        weight = self._order.charge(task.flow, waiting.cost)
        self._running[task.task_id] = Running(waiting, weight, now_s)
        self._meter.started(now_s, waiting.cost)
        self._rest(task.flow)

    def _end(self, task_id: str) -> Running:
        running = self._running.pop(task_id, None)
        if running is None:
            raise NotFound("no such task is running", field="task_id", value=task_id)
        return running

    def _refuse(self, full: FullLimit, task: Task) -> Exhausted:
        """Counts the whole flow as ahead: an upper bound that does not read the queue, since refusals come in floods."""
        queue = self._backlog.flow(task.flow)
        cost, tasks = (queue.cost, len(queue.order)) if queue is not None else (0.0, 0)
        own = FlowLoad(task.flow.band, task.weight, self._order.start(task.flow), cost, tasks)
        needed = full.excess_cost
        if full.of_flow:
            needed, _ = served_before(own._replace(cost=needed), self._others(task.flow))
        return refusal(full, self._place(task.flow, own), needed, self._meter.cost_per_s)

    def _others(self, flow: FlowKey) -> list[FlowLoad]:
        return [load for other, load in self.loads().items() if other != flow]

    def _standing(self, flow: FlowKey, load: FlowLoad, now_s: float) -> FlowStanding:
        oldest_s = self._backlog.oldest_s(flow)
        return FlowStanding(load, 0.0 if oldest_s is None else now_s - oldest_s, self._place(flow, load).wait_s)

    def _place(self, flow: FlowKey, own: FlowLoad) -> QueueEstimate:
        cost, tasks = served_before(own, self._others(flow))
        ahead, speed = cost + self._meter.running_cost, self._meter.cost_per_s
        return QueueEstimate(tasks, round(ahead), None if speed is None else ahead / speed)
