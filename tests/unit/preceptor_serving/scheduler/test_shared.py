"""Several workers, each with its own scheduler, over shared clocks and ready work outside."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor_serving.scheduler import DropReason, MemoryClocks, MemoryReady, ReadyFlow, Scheduler, Task, Work
from tests.unit.preceptor_serving.scheduler.traffic import RULE, Pool, flow_key


def task(task_id: str, job: str = "a", tokens: int = 100, **other: object) -> Task:
    return Task(task_id, flow_key(job), Work(tokens, 0), 1.0, **other)


def next_ids(scheduler: Scheduler, now_s: float = 0.0, budget_tokens: int = 1_000) -> list[str]:
    return [t.task_id for t in scheduler.next_batch(now_s, budget_tokens=budget_tokens, max_tasks=100).tasks]


def finish_all(scheduler: Scheduler, task_ids: list[str], tokens: int = 100) -> None:
    for task_id in task_ids:
        scheduler.finish(task_id, 0.0, Work(tokens, 0))


@given(seed=st.integers(0, 2**32), weights=st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_every_ready_task_is_taken_by_exactly_one_worker(seed: int, weights: list[float]) -> None:
    pool = Pool(3, shared=True, seed=seed)
    for number, weight in enumerate(weights):
        for _ in range(pool.random.randrange(1, 30)):
            pool.submit(flow_key(f"job{number}"), weight, pool.random.choice([1, 50, 400, 900]))
    picked: list[str] = []
    idle = 0
    while idle < 3:
        batch = pool.turn(pool.random.randrange(3))
        idle = 0 if batch else idle + 1
        picked += [t.task_id for t in batch]
    for worker in range(3):  # what a worker has popped and not yet dispatched is still its own
        while batch := pool.turn(worker):
            picked += [t.task_id for t in batch]
    assert sorted(picked) == sorted(pool.true_work)


def test_one_order_over_own_and_ready_flows() -> None:
    ready = MemoryReady()
    scheduler = Scheduler(RULE, source=ready)
    for number in range(3):
        ready.add(task(f"redis{number}", "a"))
        scheduler.submit(task(f"grpc{number}", "b"), 0.0)
    assert sorted(next_ids(scheduler, budget_tokens=200)) == ["grpc0", "redis0"]
    assert sorted(next_ids(scheduler, budget_tokens=200)) == ["grpc1", "redis1"]


def test_deadlines_order_own_and_ready_tasks_of_one_flow() -> None:
    ready = MemoryReady()
    scheduler = Scheduler(RULE, source=ready)
    ready.add(task("redis-late", deadline_s=8.0))
    ready.add(task("redis-soon", deadline_s=2.0))
    scheduler.submit(task("grpc-mid", deadline_s=5.0), 0.0)
    assert next_ids(scheduler) == ["redis-soon", "grpc-mid", "redis-late"]


def test_a_popped_task_that_does_not_fit_leads_the_next_batch_and_no_second_one_is_taken() -> None:
    ready = MemoryReady()
    first, second = Scheduler(RULE, source=ready), Scheduler(RULE, source=ready)
    for number in range(3):
        ready.add(task(f"t{number}", tokens=600))
    assert next_ids(first) == ["t0"]
    assert [flow.tasks for flow in ready.peek()] == [1]
    assert next_ids(second) == ["t2"]
    assert next_ids(first) == ["t1"]


def test_a_flow_whose_tasks_others_took_is_passed_over() -> None:
    class Raced(MemoryReady):
        def peek(self) -> list[ReadyFlow]:
            return [ReadyFlow(flow_key("gone"), 1.0, 5), *super().peek()]

    ready = Raced()
    ready.add(task("t"))
    assert next_ids(Scheduler(RULE, source=ready)) == ["t"]


def test_ready_work_outside_counts_as_ahead() -> None:
    ready = MemoryReady()
    scheduler = Scheduler(RULE, source=ready)
    scheduler.submit(task("timed", "timed"), 0.0)
    finish_all(scheduler, next_ids(scheduler))
    for number in range(6):
        ready.add(task(f"redis{number}", "a"))
    scheduler.next_batch(0.0, budget_tokens=100, max_tasks=1)
    for number in range(4):
        scheduler.submit(task(f"grpc{number}", "b"), 0.0)
    told = scheduler.estimate("grpc3")
    assert abs(told.position - 6) <= 1
    assert abs(told.tokens_ahead - 700) <= 100, "three of its own, as many of the other flow, and the running one"


def test_expired_and_repeated_ready_tasks_end_with_a_reason() -> None:
    ready = MemoryReady()
    scheduler = Scheduler(RULE, source=ready)
    ready.add(task("late", deadline_s=1.0))
    ready.add(task("fine"))
    assert next_ids(scheduler, now_s=3.0) == ["fine"]
    ready.add(task("fine"))
    assert next_ids(scheduler, now_s=3.0) == []
    assert [(d.task.task_id, d.reason) for d in scheduler.take_dropped()] == [
        ("late", DropReason.EXPIRED),
        ("fine", DropReason.DUPLICATE),
    ]


def test_a_charge_at_one_worker_counts_at_the_others() -> None:
    clocks = MemoryClocks()
    workers = [Scheduler(RULE, clocks=clocks) for _ in range(2)]
    for worker, scheduler in enumerate(workers):
        for number in range(10):
            scheduler.submit(task(f"both{worker}{number}", "both"), 0.0)
    for number in range(10):
        workers[1].submit(task(f"only{number}", "only"), 0.0)
    assert len(next_ids(workers[0])) == 10
    served = next_ids(workers[1])
    assert served[:10] == [f"only{number}" for number in range(10)], "`both` has had its thousand tokens on the other worker"


def test_a_flow_with_a_worker_of_its_own_does_not_delay_newcomers_elsewhere() -> None:
    """With one floor for all workers, the newcomer would start a thousand tasks behind."""
    clocks = MemoryClocks()
    lonely, crowded = Scheduler(RULE, clocks=clocks), Scheduler(RULE, clocks=clocks)
    for number in range(1_000):
        lonely.submit(task(f"lonely{number}", "lonely"), 0.0)
        finish_all(lonely, next_ids(lonely))
    for number in range(20):
        crowded.submit(task(f"x{number}", "x"), 0.0)
        crowded.submit(task(f"y{number}", "y"), 0.0)
    finish_all(crowded, next_ids(crowded))
    crowded.submit(task("new", "newcomer"), 0.0)
    assert "new" in next_ids(crowded, budget_tokens=300)


def test_a_flow_that_fell_behind_elsewhere_is_not_repaid_at_once() -> None:
    """It could not have been served here, so it joins at the floor here instead of taking this worker for itself."""
    clocks = MemoryClocks()
    here, elsewhere = Scheduler(RULE, clocks=clocks), Scheduler(RULE, clocks=clocks)
    elsewhere.submit(task("behind", "moved"), 0.0)
    finish_all(elsewhere, next_ids(elsewhere))
    for number in range(300):
        here.submit(task(f"local{number}", "local"), 0.0)
        if number < 200:
            finish_all(here, next_ids(here, budget_tokens=100))
    for number in range(20):
        here.submit(task(f"moved{number}", "moved"), 0.0)
    jobs = [task_id[:5] for task_id in next_ids(here)]
    assert jobs.count("local") >= 4


def test_losing_the_shared_table_means_going_on_with_what_is_known() -> None:
    """A table that forgets everything is a table of newcomers: all flows go on from the floor, nobody is starved."""
    clocks = MemoryClocks()
    scheduler = Scheduler(RULE, clocks=clocks)
    for number in range(40):
        scheduler.submit(task(f"a{number}", "a"), 0.0)
        scheduler.submit(task(f"b{number}", "b"), 0.0)
    next_ids(scheduler)
    clocks._clocks.clear()
    jobs = [task_id[0] for task_id in next_ids(scheduler)]
    assert (jobs.count("a"), jobs.count("b")) == (5, 5)
