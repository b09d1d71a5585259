"""Learners whose stages overlap, whose rollouts fail and whose runs end early: killed anywhere, they end as if undisturbed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import InvalidArgument
from preceptor.learner import POINTS
from preceptor.learner.ending import AlarmBoard, is_plateau
from preceptor.learner.tally import repetition
from preceptor.recipes import AlarmRule, EarlyStop
from tests.unit.preceptor.learner.world import RUN, Fault, KillAt, World, plan, recipe

STALE = {"steps": 4, "deterministic": False, "staleness": 1}
OVERSHOOT = {**STALE, "staleness": 0, "ahead_steps": 1}


def world(folder: Path, **schedule: Any) -> World:
    """Rollouts and steps that take a moment, so that stages do overlap."""
    made = World(folder)
    made.plan = plan(**schedule)
    made.rollout.slow, made.student.slow = 0.001, 0.004
    return made


def steps_of(made: World) -> list[dict[str, Any]]:
    lines = (made.root / RUN / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


@pytest.fixture(scope="module")
def strictly_on_policy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    import asyncio

    made = world(tmp_path_factory.mktemp("calm"), steps=4)
    asyncio.run(made.run())
    return made.student.now


async def test_stages_overlap_within_the_bound(tmp_path: Path, strictly_on_policy: bytes) -> None:
    made = world(tmp_path, **STALE)
    await made.run()
    events = steps_of(made)
    assert [event["ages"]["max"] for event in events] == [0, 1, 1, 1]
    assert [event["weight_step"] for event in events] == [0, 0, 1, 2]
    assert made.student.now == strictly_on_policy, "this world draws by seed and place, whatever the weights"
    assert {event["dropped"] for event in events} == {0}
    assert set(events[-1]["idle_seconds"]) == {"generate", "score", "train"}


@pytest.mark.parametrize("hit", [1, 3])
@pytest.mark.parametrize("point", POINTS)
async def test_dying_while_stages_overlap_loses_and_repeats_nothing(
    tmp_path: Path, strictly_on_policy: bytes, point: str, hit: int
) -> None:
    made = world(tmp_path, **STALE)
    with suppress(Fault):
        await made.run(KillAt(point, hit))
    await made.run()
    assert made.student.now == strictly_on_policy
    assert all(count == 1 for count in made.student.computed.values())
    events = steps_of(made)
    assert [event["step"] for event in events] == [1, 2, 3, 4]
    assert max(event["ages"]["max"] for event in events) <= 1


@pytest.mark.parametrize("point", [None, "rollouts dropped", "rollout journaled"])
async def test_what_is_older_than_the_bound_is_drawn_again(tmp_path: Path, strictly_on_policy: bytes, point: str | None) -> None:
    made = world(tmp_path, **OVERSHOOT)
    if point is not None:
        with pytest.raises(Fault):
            await made.run(KillAt(point, 2))
    await made.run()
    events = steps_of(made)
    assert {event["ages"]["max"] for event in events} == {0}
    assert sum(event["dropped"] for event in events) > 0
    assert made.student.now == strictly_on_policy
    asked = [(step, prompt) for step, prompt, _, _, attempt in made.rollout.asked if attempt > 0]
    assert asked, "dropped rollouts are asked for under the next attempt"


async def test_what_is_older_than_the_bound_counts_less_where_the_recipe_says_so(tmp_path: Path) -> None:
    made = world(tmp_path, **OVERSHOOT, stale_weight=0.25)
    await made.run()
    weights = {step: {i.weight for batch in batches for i in batch.items} for step, batches in made.student.batches.items()}
    assert weights == {1: {1.0}, 2: {0.25}, 3: {0.25}, 4: {0.25}}
    assert [event["reweighted"] for event in steps_of(made)] == [0, 4, 4, 4]
    assert {event["dropped"] for event in steps_of(made)} == {0}


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("point", [None, "rollout skipped", "step told"])
async def test_a_few_rollouts_may_fail_for_good(tmp_path: Path, point: str | None) -> None:
    made = world(tmp_path, failed_rollouts_per_step=2, deterministic=False)
    made.rollout.refuse = {(0, 0, 1), (1, 2, 0), (1, 3, 0)}
    if point is not None:
        with pytest.raises(Fault):
            await made.run(KillAt(point))
    await made.run()
    assert [event["skipped"] for event in steps_of(made)] == [1, 2, 0]
    assert [event["rollouts"] for event in steps_of(made)] == [3, 2, 4]
    told = [event for event in made.events if event["event"] == "skipped"]
    assert {(event["step"], event["prompt"], event["sample"]) for event in told} == {(1, 0, 1), (2, 2, 0), (2, 3, 0)}
    trained = {step: [(i.id.prompt, i.id.sample) for b in bs for i in b.items] for step, bs in made.student.batches.items()}
    assert trained[1] == [(0, 0), (1, 0), (1, 1)]


async def test_one_failure_too_many_ends_the_run_until_its_cause_is_mended(tmp_path: Path) -> None:
    made = world(tmp_path, failed_rollouts_per_step=1, deterministic=False)
    made.rollout.refuse = {(1, 2, 0), (1, 3, 0)}
    with pytest.raises(InvalidArgument, match="too long"):
        await made.run()
    assert len(made.student.applied) == 1
    made.rollout.refuse = set()
    await made.run()
    assert [event["skipped"] for event in steps_of(made)] == [0, 1, 0]


async def test_a_verdict_that_is_refused_for_good_costs_its_rollout(tmp_path: Path) -> None:
    made = world(tmp_path, failed_rollouts_per_step=1)
    made.teacher.grade_errors = [InvalidArgument("unreadable")]
    await made.run()
    assert [event["skipped"] for event in steps_of(made)] == [1, 0, 0]
    assert made.student.durable == 3


# ---------------------------------------------------------------- alarms and the early end


def alarmed(folder: Path, **alarms: object) -> World:
    made = World(folder)
    made.plan = plan(recipe(steps=6) | {"alarms": alarms})
    made.student.metrics = {"reverse_kl": 12.0, "mean_response_tokens": 4.5, "truncation_rate": 0.1}
    return made


async def test_an_alarm_warns_once_while_the_trouble_lasts(tmp_path: Path) -> None:
    made = alarmed(tmp_path, reverse_kl={"above": 10, "for_steps": 2})
    summary = await made.run()
    told = [event for event in made.events if event["event"] == "alarm"]
    assert [(event["step"], event["name"], event["action"]) for event in told] == [(2, "reverse_kl", "warn")]
    assert (summary.steps, summary.ended) == (6, "")


@pytest.mark.parametrize("point", [None, "step told", "step journaled", "checkpoint written", "weights published"])
async def test_an_alarm_that_stops_ends_the_run_in_order(tmp_path: Path, point: str | None) -> None:
    made = alarmed(tmp_path, length={"above": 0.4, "for_steps": 3, "action": "stop"})
    if point is not None:
        with pytest.raises(Fault):
            await made.run(KillAt(point, 3 if point.startswith("step") else 2))
    summary = await made.run()
    assert (summary.steps, summary.is_alarm) == (3, True)
    assert "length is 0.5, above 0.4 for 3 steps" in summary.ended
    assert made.student.durable == 3
    assert made.rollout.weights.step == 3
    assert json.loads((tmp_path / RUN / "summary.json").read_text())["ended"] == summary.ended
    again = await made.run()
    assert (again.steps, len(made.student.applied)) == (3, 3), "a run that has ended stays ended"


@pytest.mark.parametrize("point", [None, "end journaled"])
async def test_a_run_that_gains_nothing_more_ends_early(tmp_path: Path, point: str | None) -> None:
    raw = recipe(steps=9, early_stop={"evaluations": 2})
    raw["evaluation"] = {"path": "unused", "every_steps": 1, "max_response_tokens": 4}
    made = World(tmp_path)
    made.plan = plan(raw)
    if point is not None:
        with pytest.raises(Fault):
            await made.run(KillAt(point))
    summary = await made.run()
    assert (summary.steps, summary.is_alarm) == (2, False)
    assert summary.ended == "no gain in 2 evaluations"
    assert made.student.durable == 2


@pytest.mark.parametrize(
    ("accuracies", "ends"),
    [([0.5], False), ([0.5, 0.5], False), ([0.5, 0.5, 0.5], True), ([0.5, 0.4, 0.51], False), ([0.5, 0.6, 0.6, 0.6], True),
     ([0.5, 0.5, 0.6, 0.6], False)],
)  # fmt: skip
def test_a_plateau_counts_from_the_best(accuracies: list[float], ends: bool) -> None:
    assert is_plateau(accuracies, EarlyStop(evaluations=2)) is ends


def test_small_gains_are_none() -> None:
    assert is_plateau([0.5, 0.505, 0.509], EarlyStop(evaluations=2, min_gain=0.01))
    assert not is_plateau([0.5, 0.505, 0.511], EarlyStop(evaluations=2, min_gain=0.01))


def test_an_alarm_counts_steps_in_a_row_and_rings_again_after_a_recovery() -> None:
    board = AlarmBoard({"overlap": AlarmRule(below=0.5, for_steps=2)})
    rings = [bool(board.take({"overlap": value})) for value in (0.4, 0.6, 0.4, 0.4, 0.4, 0.5, 0.1, 0.2)]
    assert rings == [False, False, False, True, False, False, False, True]
    assert board.take({}) == []


def test_a_rule_has_one_threshold() -> None:
    for thresholds in ({}, {"above": 1.0, "below": 0.0}):
        with pytest.raises(ValueError, match="one of them"):
            AlarmRule.model_validate(thresholds)


@pytest.mark.parametrize(("ids", "share"), [([], 0), ([1, 2, 3, 4], 0), ([1] * 8, 0.8), ([1, 2, 3, 4, 1, 2, 3, 4], 0.2)])
def test_repetition_is_the_share_of_grams_seen_before(ids: list[int], share: float) -> None:
    assert repetition(ids) == pytest.approx(share)
