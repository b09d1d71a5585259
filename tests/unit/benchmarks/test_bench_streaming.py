"""What the streaming and sharing benchmarks time is what they say: every rollout is drawn once, the worst case is reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench_sharing import Found, kinds, results
from benchmarks.bench_streaming import Round
from benchmarks.desk import Counts
from benchmarks.streaming.runs import Plan, Timed, random_contexts
from benchmarks.streaming.transport import require_same
from benchmarks.wall.cases import EIGHT, VICTIMS, Contended, demand_of, door_of, eight_jobs, one_job
from benchmarks.wall.jobs import Size
from preceptor.types import RolloutId, Rows

SIZE = Size(tokens=10, vocabulary=20)


@pytest.mark.parametrize(("prompts", "samples", "slots"), [(32, 1, 8), (5, 1, 8), (1, 8, 8), (3, 2, 8)])
def test_batches_hold_every_rollout_once_and_never_more_than_the_slots(prompts: int, samples: int, slots: int) -> None:
    plan = Plan(random_contexts(prompts, 4, 20, seed=1), samples, slots, new_tokens=2, seed=0)
    drawn = [RolloutId("bench", 0, one.prompt, sample) for batch in plan.batches() for one in batch for sample in range(samples)]
    assert sorted(map(repr, drawn)) == sorted(repr(one) for one, _ in plan.rollouts)
    assert all(sum(one.samples for one in batch) <= slots for batch in plan.batches())


def test_two_runs_that_drew_other_tokens_are_no_round() -> None:
    one = Timed((0.1,), 1.0, Counts(), {"task-0-0": np.array([1, 2], np.uint32)})
    other = replace(one, responses={"task-0-0": np.array([1, 3], np.uint32)})
    Round(one, one, one)
    with pytest.raises(RuntimeError, match="different tokens"):
        Round(one, other, one)


def test_rows_of_another_sequence_do_not_pass_for_the_engines() -> None:
    def rows(values: list[float]) -> Rows:
        return Rows(start=0, validity=np.zeros(len(values), np.uint8), sampled=np.array(values, np.float32))

    require_same(rows([-1.0, -2.0, -3.0]), [rows([-1.0, -2.0]), rows([-3.0])])
    for wrong in ([rows([-1.0, -2.0])], [rows([-1.0, -2.5, -3.0])]):
        with pytest.raises(RuntimeError, match="not the engine's"):
            require_same(rows([-1.0, -2.0, -3.0]), wrong)


def test_both_doors_are_used_and_every_job_asks_for_more_than_nothing() -> None:
    for jobs in (eight_jobs(SIZE), one_job(SIZE)):
        assert {job.door for job in jobs} == {"grpc", "redis"}
    assert {door_of(name) for name in VICTIMS} == {"grpc", "redis"}
    assert [demand_of(name) for name in EIGHT] == [50.0, 0.5, 0.5, *[1.25] * 5]


def test_the_worst_case_and_the_worse_victim_are_reported() -> None:
    calm = Contended(0.99, {}, {}, dict.fromkeys(VICTIMS, 1.0), dict.fromkeys(VICTIMS, 3.0), batch_s=2.0)
    rough = replace(calm, jain=0.5, victim_p95_s={VICTIMS[0]: 3.0, VICTIMS[1]: 9.0})
    found = {"calm": Found([1.0, 0.9, 1.1], 5.0, calm, 1.0), "rough": Found([0.8, 0.7, 0.9], 5.0, rough, 1.0)}
    throughput, fairness, wall = results(kinds(1000.0)["fake"], found)
    assert (throughput.value, fairness.value, wall.value) == (0.8, 0.5, 3.0)
    assert not throughput.ok
    assert not wall.ok
    assert wall.detail["cases"] == {"calm": 1.0, "rough": 3.0}
