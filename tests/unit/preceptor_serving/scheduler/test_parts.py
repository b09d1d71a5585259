"""The parts on their own: ranking, clocks, estimates, and what dispatch costs in operations."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError, NotFound
from preceptor_serving.scheduler import Charge, CostRule, MemoryClocks, QueueLimits, Scheduler, Task, Work
from preceptor_serving.scheduler.clocks import FORGET_AFTER_S
from preceptor_serving.scheduler.ranking import Ranking
from tests.unit.preceptor_serving.scheduler.traffic import RULE, flow_key

# ---- ranking


@given(st.lists(st.tuples(st.sampled_from(["put", "discard", "take"]), st.integers(0, 12), st.integers(0, 5)), max_size=300))
def test_a_ranking_equals_a_sorted_dict(steps: list[tuple[str, int, int]]) -> None:
    ranking: Ranking[int] = Ranking()
    plain: dict[int, tuple[float, ...]] = {}
    for step, key, rank in steps:
        if step == "put":
            ranking.put(key, (rank, key))
            plain[key] = (rank, key)
        elif step == "discard":
            ranking.discard(key)
            plain.pop(key, None)
        elif plain:
            first = ranking.first()
            assert first == min(plain, key=plain.__getitem__)
            ranking.discard(first)
            del plain[first]
        assert len(ranking) == len(plain)
        assert ranking.first() == min(plain, key=plain.__getitem__, default=None)


def test_a_ranking_does_not_keep_what_was_removed() -> None:
    ranking: Ranking[int] = Ranking()
    for number in range(10_000):
        ranking.put(number, (number, number))
        ranking.discard(number - 5)
    assert len(ranking._heap) <= 128


# ---- clocks


def test_a_charge_settles_then_lifts_to_the_floor_then_adds() -> None:
    clocks = MemoryClocks()
    flow = flow_key("a")
    clocks.advance([Charge(flow, 0.0, 10.0, 5.0)], 0.0)
    assert clocks.clock(flow) == 15.0
    clocks.advance([Charge(flow, -3.0, 10.0, 2.0)], 0.0)
    assert clocks.clock(flow) == 14.0
    clocks.advance([Charge(flow, -3.0, 13.0, 2.0)], 0.0)
    assert clocks.clock(flow) == 15.0


def test_clocks_that_nobody_touches_are_forgotten() -> None:
    clocks = MemoryClocks()
    for number in range(100):
        clocks.advance([Charge(flow_key(f"job{number}"), 0.0, 0.0, 1.0)], number * FORGET_AFTER_S / 10)
    assert len(clocks) == 11
    assert clocks.clock(flow_key("job0")) == 0.0


def test_idle_flows_leave_no_state_in_the_scheduler() -> None:
    scheduler = Scheduler(RULE)
    for number in range(1_000):
        scheduler.submit(Task("t", flow_key(f"job{number}"), Work(10, 0), 1.0), number)
        scheduler.next_batch(number, budget_tokens=100, max_tasks=1)
        scheduler.finish("t", number, Work(10, 0))
    assert (len(scheduler._order._active), len(scheduler._backlog._flows), len(scheduler._running)) == (0, 0, 0)


@pytest.mark.parametrize(
    "make", [lambda: CostRule(-1.0), lambda: CostRule(float("nan")), lambda: Scheduler(RULE, lower_band_share=1.0)]
)
def test_impossible_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


# ---- estimates


@given(
    tasks=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200)), min_size=1, max_size=60),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=4, max_size=4),
    served_before=st.integers(0, 30),
)
def test_what_a_client_is_told_is_true_to_one_task_per_flow(
    tasks: list[tuple[int, int]], weights: list[float], served_before: int
) -> None:
    scheduler = Scheduler(CostRule(0.0))
    scheduler.submit(Task("timed", flow_key("timed"), Work(100, 0), 1.0), 0.0)
    scheduler.next_batch(0.0, budget_tokens=100, max_tasks=1)
    scheduler.finish("timed", 1.0, Work(100, 0))
    for number, (job, tokens) in enumerate(tasks):
        scheduler.submit(Task(f"t{number}", flow_key(f"job{job}"), Work(tokens, 0), weights[job]), 1.0)
    gone = scheduler.next_batch(1.0, budget_tokens=10**6, max_tasks=served_before).tasks
    left = [f"t{number}" for number in range(len(tasks)) if f"t{number}" not in {task.task_id for task in gone}]
    told = {task_id: scheduler.estimate(task_id) for task_id in left}
    ahead = sum(task.work.new_tokens for task in gone)
    while batch := scheduler.next_batch(1.0, budget_tokens=1, max_tasks=1).tasks:
        estimate = told[batch[0].task_id]
        assert abs(estimate.tokens_ahead - ahead) <= 3 * 200
        assert estimate.wait_s == pytest.approx(estimate.tokens_ahead / 100, abs=0.01)
        ahead += batch[0].work.new_tokens


def test_what_was_served_long_ago_is_not_ahead() -> None:
    scheduler = Scheduler(CostRule(0.0))
    for number in range(100):
        scheduler.submit(Task(f"t{number}", flow_key("ab"[number % 2]), Work(100, 0), 1.0), 0.0)
    for task in scheduler.next_batch(0.0, budget_tokens=6_000, max_tasks=60).tasks:
        scheduler.finish(task.task_id, 1.0, task.work)
    scheduler.next_batch(1.0, budget_tokens=1, max_tasks=1)
    assert scheduler.estimate("t61").position <= 1
    assert abs(scheduler.estimate("t81").position - 20) <= 1


def test_work_on_the_engines_and_more_urgent_work_is_ahead() -> None:
    scheduler = Scheduler(CostRule(0.0))
    scheduler.submit(Task("running", flow_key("a"), Work(50, 0), 1.0), 0.0)
    scheduler.next_batch(0.0, budget_tokens=100, max_tasks=1)
    scheduler.submit(Task("urgent", flow_key("b", band=0), Work(30, 0), 1.0), 0.0)
    scheduler.submit(Task("calm", flow_key("c", band=2), Work(20, 0), 1.0), 0.0)
    scheduler.submit(Task("mine", flow_key("d", band=1), Work(10, 0), 1.0), 0.0)
    told = scheduler.estimate("mine")
    assert (told.position, told.tokens_ahead, told.wait_s) == (1, 80, None)
    with pytest.raises(NotFound):
        scheduler.estimate("running")


# ---- operations


class Counted(float):
    """A deadline that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float.__lt__(self, other)

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return float.__eq__(self, other)

    __hash__ = float.__hash__


def run_through(scheduler: Scheduler, tasks: int, flows: int, deadline: Callable[[int], float]) -> int:
    """Submits all, then dispatches and finishes all; returns how many came out."""
    for number in range(tasks):
        flow = flow_key(f"job{number % flows}")
        scheduler.submit(Task(f"t{number}", flow, Work(64, 16), 1.0, deadline((number * 7_919) % tasks)), 0.0)
    done = 0
    while batch := scheduler.next_batch(0.0, budget_tokens=8_192, max_tasks=128):
        for task in batch.tasks:
            scheduler.finish(task.task_id, 0.0, task.work)
            done += 1
    return done


ROOMY = QueueLimits(flow_tasks=10**6, flow_tokens=10**9, total_tasks=10**6, total_tokens=10**9)


@pytest.mark.slow
def test_a_hundred_thousand_tasks_complete() -> None:
    assert run_through(Scheduler(RULE, limits=ROOMY), 100_000, flows=8, deadline=lambda number: 1e9 + number) == 100_000


def test_comparisons_grow_with_the_logarithm_of_the_queue() -> None:
    def comparisons_per_task(tasks: int) -> float:
        Counted.comparisons = 0
        run_through(Scheduler(RULE, limits=ROOMY), tasks, flows=1, deadline=lambda number: Counted(1e9 + number))
        return Counted.comparisons / tasks

    small, large = comparisons_per_task(1_000), comparisons_per_task(16_000)
    assert large - small <= 6 * 8 * 1.5, "four more doublings cost a few comparisons each, in two heaps"
    assert large <= 2.2 * small


def calls_per_task(tasks: int, flows: int) -> float:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run_through(Scheduler(RULE, limits=ROOMY), tasks, flows, deadline=lambda number: 1e9 + number)
    finally:
        sys.setprofile(None)
    return calls / tasks


def test_calls_per_task_do_not_grow_with_the_queue() -> None:
    assert calls_per_task(8_000, flows=8) <= 1.1 * calls_per_task(1_000, flows=8)
