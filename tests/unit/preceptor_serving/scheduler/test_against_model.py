"""Whatever is done to it, the scheduler dispatches exactly what the plain list model dispatches, and loses nothing."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from preceptor_serving.scheduler import CancelResult, CostRule, DropReason, FlowKey, Scheduler, Task, Work
from tests.reference.fair_queue import PlainFairQueue

# Dyadic numbers keep every sum exact, so that ties are ties on both sides.
ROW_COST_TOKENS = 0.25
SHARE = 0.125
FLOWS = [
    FlowKey("teacher", tenant, job, band) for tenant, job, band in [("a", "1", 1), ("a", "2", 1), ("b", "1", 1), ("b", "1", 2)]
]
work = st.builds(Work, st.integers(0, 64), st.integers(1, 32), st.sampled_from([0, 0, 16]))


class AgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.real = Scheduler(CostRule(ROW_COST_TOKENS), lower_band_share=SHARE)
        self.model = PlainFairQueue(ROW_COST_TOKENS, SHARE)
        self.now_s = 0.0
        self.submitted: dict[str, Task] = {}
        self.running: list[str] = []
        self.cancelled_running: set[str] = set()
        self.ended: dict[str, str] = {}

    def collect(self) -> None:
        for dropped in self.real.take_dropped():
            assert dropped.task.task_id not in self.ended, "every task ends once"
            if dropped.reason is DropReason.EXPIRED:
                assert dropped.task.deadline_s <= self.now_s
            self.ended[dropped.task.task_id] = dropped.reason

    @rule(
        flow=st.sampled_from(FLOWS),
        work=work,
        weight=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        patience_s=st.sampled_from([math.inf, math.inf, 3.0, 9.0]),
        suspect=st.sampled_from([False, False, False, True]),
    )
    def submit(self, flow: FlowKey, work: Work, weight: float, patience_s: float, suspect: bool) -> None:
        task = Task(f"t{len(self.submitted)}", flow, work, weight, self.now_s + patience_s, suspect)
        self.submitted[task.task_id] = task
        self.model.expire(self.now_s)
        self.real.submit(task, self.now_s)
        self.model.submit(task)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(budget_tokens=st.integers(1, 150), max_tasks=st.integers(1, 8))
    def next_batch(self, budget_tokens: int, max_tasks: int) -> None:
        waiting_before = self.real.waiting_tasks
        batch = self.real.next_batch(self.now_s, budget_tokens=budget_tokens, max_tasks=max_tasks)
        picked = [task.task_id for task in batch.tasks]
        assert picked == self.model.next_batch(self.now_s, budget_tokens, max_tasks)
        assert batch or not self.real.waiting_tasks, "work conservation: an engine that asks gets work while any waits"
        assert len(picked) == 1 or batch.batch_tokens <= budget_tokens
        assert len(picked) == 1 or not any(task.suspect for task in batch.tasks)
        assert waiting_before >= len(picked)
        for task in batch.tasks:
            assert task.deadline_s > self.now_s
            assert task.task_id not in self.ended
        self.running += picked

    @precondition(lambda self: self.running)
    @rule(data=st.data(), spent=work)
    def finish(self, data: st.DataObject, spent: Work) -> None:
        task_id = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        settled = self.real.finish(task_id, self.now_s, spent)
        assert settled.recomputed_tokens == spent.recomputed_tokens
        self.model.finish(task_id, spent)
        self.ended[task_id] = "finished"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), suspect=st.booleans())
    def engine_dies(self, data: st.DataObject, suspect: bool) -> None:
        count = data.draw(st.integers(1, len(self.running)))
        lost, self.running = self.running[:count], self.running[count:]
        self.real.requeue(lost, self.now_s, suspect=suspect)
        for task_id in lost:
            self.model.requeue(task_id, suspect=suspect, cancelled=task_id in self.cancelled_running)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.submitted)))
        found = self.real.cancel(task_id, self.now_s)
        if found is CancelResult.DROPPED:
            self.model.drop(task_id)
        elif found is CancelResult.RUNNING:
            assert task_id in self.running
            self.cancelled_running.add(task_id)
        else:
            self.collect()
            assert task_id in self.ended

    @invariant()
    def nothing_is_lost(self) -> None:
        self.collect()
        assert self.real.running_tasks == len(self.running)
        assert self.real.waiting_tasks + self.real.running_tasks + len(self.ended) == len(self.submitted)

    def teardown(self) -> None:
        """Everything that is left comes out, in the model's order."""
        while self.real.waiting_tasks:
            self.next_batch(64, 8)
        self.nothing_is_lost()


AgainstModel.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAgainstModel = AgainstModel.TestCase
