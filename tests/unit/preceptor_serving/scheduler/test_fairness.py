"""The promises of docs/scheduling.md: bounded unfairness over every interval, no credit for idling, no starvation."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor_serving.scheduler import FlowKey, MemoryClocks, Scheduler, Task, Work
from tests.unit.preceptor_serving.scheduler.traffic import RULE, Pool, flow_key, gap_range

SIZES = [1, 10, 50, 200, 500, 900]  # the largest exceeds the batch budget and runs alone
flow_weights = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 7.0]), min_size=2, max_size=6)


def worst_excess(pool: Pool, weights: list[float], turns: int, allowance: float) -> float:
    """How far the worst pair of always backlogged flows exceeds its bound; other flows come and go meanwhile."""
    flows = {flow_key(f"job{i}"): weight for i, weight in enumerate(weights)}
    gaps: dict[tuple[FlowKey, FlowKey], list[float]] = {pair: [0.0] for pair in itertools.combinations(flows, 2)}
    for _ in range(turns):
        pool.keep_backlogged(flows, SIZES, depth=64)
        if pool.random.random() < 0.3:
            guest = flow_key(f"guest{pool.random.randrange(4)}")
            for _ in range(pool.random.randrange(1, 6)):
                pool.submit(guest, 2.0, pool.random.choice(SIZES))
        pool.turn(pool.random.randrange(pool.workers))
        served = pool.account.served
        for (f, g), history in gaps.items():
            history.append(served.get(f, 0.0) / flows[f] - served.get(g, 0.0) / flows[g])
    account = pool.account

    def bound(flow: FlowKey) -> float:
        return (account.largest.get(flow, 0.0) + 2 * account.most_wrong.get(flow, 0.0) + allowance) / flows[flow]

    return max(gap_range(history) - bound(f) - bound(g) for (f, g), history in gaps.items())


@given(weights=flow_weights, seed=st.integers(0, 2**32), workers=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_unfairness_is_bounded_over_every_interval_when_estimates_are_exact(
    weights: list[float], seed: int, workers: int
) -> None:
    assert worst_excess(Pool(workers, shared=False, seed=seed), weights, turns=150, allowance=0.0) <= 1e-6


@given(weights=flow_weights, seed=st.integers(0, 2**32), workers=st.integers(1, 3), wrong_by=st.sampled_from([0.2, 0.9]))
@settings(max_examples=25, deadline=None)
def test_wrong_estimates_cost_only_what_is_in_flight(weights: list[float], seed: int, workers: int, wrong_by: float) -> None:
    pool = Pool(workers, shared=False, seed=seed, wrong_by=wrong_by)
    assert worst_excess(pool, weights, turns=150, allowance=0.0) <= 1e-6


@given(weights=flow_weights, seed=st.integers(0, 2**32), workers=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_engine_failures_cost_only_what_is_in_flight(weights: list[float], seed: int, workers: int) -> None:
    pool = Pool(workers, shared=False, seed=seed, failures=0.2)
    in_flight = workers * 1.5 * max(pool.budget_tokens, *SIZES)  # rows cost up to half as much again, less
    assert worst_excess(pool, weights, turns=150, allowance=2 * in_flight) <= 1e-6


@given(weights=flow_weights, seed=st.integers(0, 2**32), wrong_by=st.sampled_from([0.0, 0.5]))
@settings(max_examples=25, deadline=None)
def test_workers_that_share_clocks_stay_within_workers_times_batch(weights: list[float], seed: int, wrong_by: float) -> None:
    pool = Pool(3, shared=True, seed=seed, wrong_by=wrong_by)
    assert worst_excess(pool, weights, turns=150, allowance=3 * 1.125 * max(pool.budget_tokens, *SIZES)) <= 1e-6


def test_unfairness_does_not_grow_with_time() -> None:
    """Thousands of tasks that are always overestimated on one side only: the shares still converge to 1:1."""
    honest, boaster = flow_key("honest"), flow_key("boaster")
    scheduler = Scheduler(RULE)
    served = {honest: 0, boaster: 0}
    numbers = itertools.count()
    for now in range(3_000):
        for flow, guess in ((honest, 100), (boaster, 400)):
            for _ in range(2):
                scheduler.submit(Task(f"{next(numbers)}", flow, Work(guess, 0), 1.0), now)
        for task in scheduler.next_batch(now, budget_tokens=800, max_tasks=8).tasks:
            scheduler.finish(task.task_id, now, Work(100, 0))
            served[task.flow] += 100
    assert abs(served[honest] - served[boaster]) <= 2 * 800


@given(idle_batches=st.integers(1, 60), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_a_flow_that_was_idle_gains_no_credit(idle_batches: int, seed: int) -> None:
    pool = Pool(1, shared=False, seed=seed)
    busy, sleeper = flow_key("busy"), flow_key("sleeper")
    for _ in range(idle_batches):
        pool.keep_backlogged({busy: 1.0}, [100], depth=32)
        pool.turn(0)
    before = dict(pool.account.served)
    for _ in range(20):
        pool.keep_backlogged({busy: 1.0, sleeper: 1.0}, [100], depth=32)
        pool.turn(0)
        got = {flow: pool.account.served[flow] - before.get(flow, 0.0) for flow in (busy, sleeper)}
        assert abs(got[busy] - got[sleeper]) <= 2 * RULE.cost(Work(100, 50))


@given(flood=st.integers(1, 200), others=st.integers(0, 6), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_a_newcomer_waits_for_one_task_of_each_other_flow_at_most(flood: int, others: int, seed: int) -> None:
    pool = Pool(1, shared=False, seed=seed, budget_tokens=100)
    flows = {flow_key(f"job{i}"): 1.0 for i in range(others + 1)}
    for _ in range(flood):
        pool.submit(flow_key("job0"), 1.0, 100)
    for _ in range(10):
        pool.keep_backlogged(flows, [100], depth=4)
        pool.turn(0)
    pool.submit(flow_key("newcomer"), 1.0, 100)
    served: list[str] = []
    for _ in range(len(flows) + 1):
        pool.keep_backlogged(flows, [100], depth=4)
        served += [task.flow.job for task in pool.turn(0)]
    assert "newcomer" in served


@given(seed=st.integers(0, 2**32), weights=flow_weights)
@settings(max_examples=20, deadline=None)
def test_every_flow_is_served_within_a_round_whatever_the_others_send(seed: int, weights: list[float]) -> None:
    pool = Pool(2, shared=False, seed=seed)
    flows = {flow_key(f"job{i}"): weight for i, weight in enumerate(weights)}
    last = dict.fromkeys(flows, 0.0)
    total = 0.0
    for _ in range(150):
        pool.keep_backlogged(flows, SIZES, depth=64)
        for task in pool.turn(pool.random.randrange(2)):
            total += RULE.cost(task.work)
            last[task.flow] = total
        for flow, weight in flows.items():
            largest = 900 * 1.125
            assert total - last[flow] <= sum(flows.values()) / weight * largest + (len(flows) + 2) * largest


@pytest.mark.parametrize("shared", [False, True])
def test_the_same_calls_give_the_same_batches(shared: bool) -> None:
    def run() -> list[list[str]]:
        pool = Pool(2, shared=shared, seed=7, wrong_by=0.5, failures=0.1)
        flows = {flow_key(f"job{i}"): 1.0 + i for i in range(5)}
        picked: list[list[str]] = []
        for turn in range(200):
            pool.keep_backlogged(flows, SIZES, depth=8)
            picked.append([task.task_id for task in pool.turn(turn % 2)])
        return picked

    assert run() == run()


def test_ties_go_round_in_turn_not_by_name() -> None:
    scheduler = Scheduler(RULE)
    for number in range(3):
        for job in "cab":
            scheduler.submit(Task(f"{job}{number}", flow_key(job), Work(10, 0), 1.0), 0.0)
    batch = scheduler.next_batch(0.0, budget_tokens=1_000, max_tasks=9)
    assert [task.task_id for task in batch.tasks] == ["c0", "a0", "b0", "c1", "a1", "b1", "c2", "a2", "b2"]


class CountingClocks(MemoryClocks):
    calls = 0

    def advance(self, charges, now_s):
        self.calls += 1
        super().advance(charges, now_s)


def test_a_batch_is_one_read_modify_write_and_carries_earlier_settlements() -> None:
    clocks = CountingClocks()
    scheduler = Scheduler(RULE, clocks=clocks)
    for number in range(20):
        scheduler.submit(Task(f"t{number}", flow_key(f"job{number % 4}"), Work(100, 0), 1.0), 0.0)
    first = scheduler.next_batch(0.0, budget_tokens=400, max_tasks=8)
    for task in first.tasks:
        scheduler.finish(task.task_id, 1.0, Work(40, 0))
    assert clocks.calls == 1
    scheduler.next_batch(1.0, budget_tokens=400, max_tasks=8)
    assert clocks.calls == 2
    assert [clocks.clock(flow_key(f"job{i}")) for i in range(4)] == [140.0] * 4
