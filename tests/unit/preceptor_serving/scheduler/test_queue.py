"""What happens to a task that waits: order, bounds, deadlines, cancelling, suspects, engine failures, bands."""

from __future__ import annotations

import math

import pytest

from preceptor.errors import Conflict, Exhausted, InvalidArgument, NotFound, TooLarge
from preceptor_serving.scheduler import CancelResult, DropReason, MemoryClocks, QueueLimits, Scheduler, Task, Work
from tests.unit.preceptor_serving.scheduler.traffic import RULE, flow_key


def task(task_id: str, job: str = "a", tokens: int = 100, **other: object) -> Task:
    band = other.pop("band", 1)
    return Task(task_id, flow_key(job, band), Work(tokens, 0), weight=other.pop("weight", 1.0), **other)


def scheduler_with(*tasks: Task, **options: object) -> Scheduler:
    scheduler = Scheduler(RULE, **options)
    for one in tasks:
        scheduler.submit(one, 0.0)
    return scheduler


def next_ids(scheduler: Scheduler, now_s: float = 0.0, budget_tokens: int = 1_000, max_tasks: int = 100) -> list[str]:
    return [t.task_id for t in scheduler.next_batch(now_s, budget_tokens=budget_tokens, max_tasks=max_tasks).tasks]


# ---- order inside a flow, and batches


def test_the_earliest_deadline_goes_first_then_the_first_to_arrive() -> None:
    tasks = (task("none"), task("late", deadline_s=9.0), task("soon", deadline_s=2.0), task("also-late", deadline_s=9.0))
    assert next_ids(scheduler_with(*tasks)) == ["soon", "late", "also-late", "none"]


def test_a_batch_stops_at_the_first_task_that_does_not_fit() -> None:
    scheduler = scheduler_with(task("a1", tokens=300), task("b1", "b", tokens=500), task("a2", tokens=100))
    assert next_ids(scheduler, budget_tokens=600) == ["a1"]  # a2 would fit, but b is next
    assert next_ids(scheduler, budget_tokens=600) == ["b1", "a2"]


def test_a_task_larger_than_the_budget_runs_alone() -> None:
    scheduler = scheduler_with(task("small"), task("huge", "b", tokens=5_000), task("other", "c"))
    assert [next_ids(scheduler) for _ in range(3)] == [["small"], ["huge"], ["other"]]


def test_recomputed_tokens_fill_the_batch_and_are_reported_but_never_charged() -> None:
    recompute = Task("again", flow_key("a"), Work(100, 0, recomputed_tokens=700), 1.0)
    scheduler = scheduler_with(recompute, task("b1", "b", tokens=300))
    assert next_ids(scheduler) == ["again"]
    settled = scheduler.finish("again", 1.0, Work(100, 0, recomputed_tokens=650))
    assert (settled.cost, settled.recomputed_tokens) == (100.0, 650)


def test_tasks_are_counted_too() -> None:
    scheduler = scheduler_with(*(task(f"t{i}") for i in range(5)))
    assert [len(next_ids(scheduler, max_tasks=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_suspects_run_alone_even_among_their_own() -> None:
    scheduler = scheduler_with(task("s1", suspect=True), task("s2", suspect=True), task("fine"))
    assert [next_ids(scheduler) for _ in range(3)] == [["s1"], ["s2"], ["fine"]]


def test_a_settlement_tells_times_and_both_costs() -> None:
    scheduler = scheduler_with(task("t"))
    next_ids(scheduler, now_s=2.0)
    settled = scheduler.finish("t", 5.0, Work(60, 8))
    assert (settled.queued_s, settled.ran_s, settled.estimated_cost, settled.cost) == (2.0, 3.0, 100.0, 62.0)


# ---- ends


def test_expired_work_is_reported_once_and_never_dispatched() -> None:
    scheduler = scheduler_with(task("late", deadline_s=5.0), task("fine", deadline_s=6.0))
    assert next_ids(scheduler, now_s=5.0) == ["fine"]
    (dropped,) = scheduler.take_dropped()
    assert (dropped.task.task_id, dropped.reason, dropped.at_s) == ("late", DropReason.EXPIRED, 5.0)
    assert scheduler.take_dropped() == ()


def test_expired_work_makes_room_for_new_work() -> None:
    scheduler = scheduler_with(task("late", deadline_s=5.0), limits=QueueLimits(flow_tasks=1))
    scheduler.submit(task("new"), 5.0)
    assert scheduler.waiting_tasks == 1


def test_cancelled_work_is_never_dispatched() -> None:
    scheduler = scheduler_with(task("a1"), task("a2"))
    assert scheduler.cancel("a1", 1.0) is CancelResult.DROPPED
    assert scheduler.cancel("a1", 1.0) is CancelResult.UNKNOWN
    assert [d.reason for d in scheduler.take_dropped()] == [DropReason.CANCELLED]
    assert next_ids(scheduler) == ["a2"]


def test_work_that_is_cancelled_while_it_runs_does_not_run_again() -> None:
    scheduler = scheduler_with(task("a1"))
    next_ids(scheduler)
    assert scheduler.cancel("a1", 1.0) is CancelResult.RUNNING
    assert scheduler.take_dropped() == ()
    scheduler.requeue(["a1"], 2.0)
    assert [d.reason for d in scheduler.take_dropped()] == [DropReason.CANCELLED]
    assert next_ids(scheduler) == []


def test_an_id_is_taken_while_it_waits_or_runs_and_free_afterwards() -> None:
    scheduler = scheduler_with(task("t"))
    with pytest.raises(Conflict):
        scheduler.submit(task("t"), 0.0)
    next_ids(scheduler)
    with pytest.raises(Conflict):
        scheduler.submit(task("t"), 0.0)
    scheduler.finish("t", 1.0, Work(1, 0))
    scheduler.submit(task("t"), 1.0)


def test_settling_what_does_not_run_is_refused_by_name() -> None:
    scheduler = scheduler_with(task("t"))
    for call in (lambda: scheduler.finish("t", 0.0, Work(1, 0)), lambda: scheduler.requeue(["t"], 0.0)):
        with pytest.raises(NotFound) as error:
            call()
        assert (error.value.field, error.value.value) == ("task_id", "t")


# ---- engine failures


def test_a_failed_batch_comes_back_at_its_old_place_without_a_second_charge() -> None:
    scheduler = scheduler_with(*(task(f"{job}{i}", job) for i in range(3) for job in "ab"))
    lost = next_ids(scheduler, budget_tokens=200)
    assert lost == ["a0", "b0"]
    assert next_ids(scheduler, budget_tokens=100) == ["a1"]
    scheduler.requeue(lost, 1.0)
    assert next_ids(scheduler, now_s=1.0) == ["b0", "a0", "b1", "a2", "b2"]


def test_a_task_that_failed_twice_is_charged_once_in_the_end() -> None:
    clocks = MemoryClocks()
    scheduler = scheduler_with(task("t"), task("other", "b"), clocks=clocks)
    for _ in range(2):
        scheduler.requeue(next_ids(scheduler, max_tasks=1), 0.0)
    next_ids(scheduler)
    scheduler.finish("t", 1.0, Work(80, 0))
    next_ids(scheduler)  # settlements travel with the next batch
    assert (clocks.clock(flow_key("a")), clocks.clock(flow_key("b"))) == (80.0, 100.0)


def test_failed_tasks_can_be_marked_suspect() -> None:
    scheduler = scheduler_with(task("a0"), task("a1"))
    scheduler.requeue(next_ids(scheduler), 1.0, suspect=True)
    assert [next_ids(scheduler) for _ in range(2)] == [["a0"], ["a1"]]


def test_work_that_expires_while_its_engine_dies_ends_as_expired() -> None:
    scheduler = scheduler_with(task("t", deadline_s=3.0))
    scheduler.requeue(next_ids(scheduler), 4.0)
    assert next_ids(scheduler, now_s=4.0) == []
    assert [d.reason for d in scheduler.take_dropped()] == [DropReason.EXPIRED]


# ---- bands


def test_the_urgent_band_goes_first() -> None:
    scheduler = scheduler_with(task("calm", "b", band=2), task("urgent", "a", band=0), lower_band_share=0.0)
    assert next_ids(scheduler) == ["urgent", "calm"]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.25])
def test_a_waiting_lower_band_gets_its_guarded_share_and_no_more(share: float) -> None:
    scheduler = scheduler_with(lower_band_share=share)
    served = {0: 0, 1: 0, 2: 0}
    for number in range(2_000):
        for band in served:
            scheduler.submit(task(f"{band}-{number}", band=band, tokens=1 + number % 3), 0.0)
        for done in scheduler.next_batch(0.0, budget_tokens=4, max_tasks=1).tasks:
            served[done.flow.band] += done.work.new_tokens
            scheduler.finish(done.task_id, 0.0, done.work)
    for lower in (1, 2):
        passed = sum(served[band] for band in served if band < lower)
        assert abs(served[lower] - share * passed) <= 2 * (3 + share * 3)


def test_a_band_that_comes_and_goes_cannot_use_the_guard_to_jump_ahead() -> None:
    scheduler = scheduler_with(lower_band_share=0.05)
    served = {0: 0, 1: 0}
    for number in range(1_000):
        scheduler.submit(task(f"u{number}", band=0), 0.0)
        if scheduler.waiting_tasks < 20:
            scheduler.submit(task(f"v{number}", band=0), 0.0)
        scheduler.submit(task(f"low{number}", f"job{number}", band=1), 0.0)
        for done in scheduler.next_batch(0.0, budget_tokens=100, max_tasks=1).tasks:
            served[done.flow.band] += 1
            scheduler.finish(done.task_id, 0.0, done.work)
        scheduler.cancel(f"low{number}", 0.0)
    assert served[1] <= 0.05 * served[0] + 1


# ---- bounds


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (QueueLimits(flow_tasks=3), "flow_tasks"),
        (QueueLimits(flow_tokens=300), "flow_tokens"),
        (QueueLimits(total_tasks=5), "total_tasks"),
        (QueueLimits(total_tokens=500), "total_tokens"),
    ],
)
def test_a_full_queue_refuses_by_name_with_place_and_time(limits: QueueLimits, name: str) -> None:
    scheduler = Scheduler(RULE, limits=limits)
    scheduler.submit(task("timed", "c"), 0.0)
    next_ids(scheduler)
    scheduler.finish("timed", 1.0, Work(100, 0))  # 100 tokens per second
    for job, number in (("b", 0), ("b", 1), ("a", 0), ("a", 1), ("a", 2)):
        scheduler.submit(task(f"{job}{number}", job), 1.0)
    with pytest.raises(Exhausted) as error:
        scheduler.submit(task("one-more"), 1.0)
    refused = error.value
    assert refused.field == f"queue.{name}"
    assert refused.queue_position == 5
    assert "500 tokens are ahead (wait: about 5.0 s)" in refused.hint
    assert refused.retry_after_s is not None
    assert 0.5 <= refused.retry_after_s <= 3.0, "room comes long before the whole queue is served"
    assert scheduler.waiting_tasks == 5


def test_before_anything_was_timed_the_refusal_says_so() -> None:
    scheduler = scheduler_with(task("t"), limits=QueueLimits(flow_tasks=1))
    with pytest.raises(Exhausted, match="not timed yet") as error:
        scheduler.submit(task("u"), 0.0)
    assert error.value.retry_after_s == 1.0


def test_a_flow_that_is_full_does_not_close_the_door_for_others() -> None:
    scheduler = scheduler_with(task("t"), limits=QueueLimits(flow_tasks=1))
    with pytest.raises(Exhausted):
        scheduler.submit(task("u"), 0.0)
    scheduler.submit(task("v", "b"), 0.0)


def test_what_never_fits_is_a_client_mistake_not_a_full_queue() -> None:
    with pytest.raises(TooLarge) as error:
        scheduler_with(task("t", tokens=301), limits=QueueLimits(flow_tokens=300))
    assert (error.value.value, error.value.limit) == ("301", "300")


def test_totals_follow_every_way_in_and_out() -> None:
    scheduler = scheduler_with(*(task(f"t{i}", f"job{i % 3}", tokens=10 + i, deadline_s=5.0 + i) for i in range(9)))
    ran = next_ids(scheduler, budget_tokens=40)
    scheduler.requeue(ran, 0.0)
    scheduler.cancel("t4", 0.0)
    scheduler.expire(6.0)
    assert scheduler.waiting_tokens == sum(10 + i for i in range(9) if i not in (0, 1, 4))
    next_ids(scheduler, now_s=100.0)
    assert (scheduler.waiting_tokens, scheduler.waiting_tasks, scheduler.loads()) == (0, 0, {})


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"weight": 0.0}, "weight"),
        ({"weight": math.nan}, "weight"),
        ({"band": 10}, "flow.band"),
        ({"band": -1}, "flow.band"),
        ({"tokens": -1}, "work"),
        ({"deadline_s": math.nan}, "deadline_s"),
    ],
)
def test_impossible_tasks_are_refused_by_field(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        task("t", **wrong)
    assert error.value.field == field
