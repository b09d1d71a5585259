"""A run from its recipe to its summary, and the same run whoever dies on the way."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from preceptor.errors import Conflict, EngineFailed, InvalidArgument
from preceptor.journal import LearnerJournal
from preceptor.learner import POINTS, NoHooks
from preceptor.learner.run_folder import RunFolder
from preceptor.names import task_name
from preceptor.queue import Flow, TaskState
from preceptor.types import RolloutId
from tests.unit.preceptor.learner.world import PATIENCE, RUN, TEACHER, Fault, KillAt, World, plan, recipe, work


@pytest.fixture
async def undisturbed(tmp_path: Path) -> bytes:
    world = World(tmp_path / "undisturbed")
    await world.run()
    return world.student.now


async def test_a_run_applies_each_step_once_and_tells_what_it_did(tmp_path: Path) -> None:
    world = World(tmp_path)
    summary = await world.run()
    assert world.student.computed == {1: 1, 2: 1, 3: 1}
    assert world.student.durable == 3
    assert world.rollout.weights.step == 3
    assert (summary.accuracy_before, summary.accuracy_after) == (0.5, 0.5)
    lines = [json.loads(line) for line in (tmp_path / RUN / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "evaluation", "step", "step", "step", "evaluation", "finished"]
    step = lines[2]
    assert step["loss"] == 1.0
    assert step["tokens_generated"] == step["rows_scored"] > 0
    assert set(step["seconds"]) == {"publish", "generate", "score_wait", "train"}
    assert step["bottleneck"] in step["seconds"]
    assert json.loads((tmp_path / RUN / "summary.json").read_text())["accuracies"] == {"0": 0.5, "3": 0.5}


async def test_batches_are_sorted_cut_by_the_budget_and_hold_every_row(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run()
    for step, batches in world.student.batches.items():
        items = [item for batch in batches for item in batch.items]
        places = [(item.id.prompt, item.id.sample) for item in items]
        assert places == sorted(places)
        assert {item.id.step for item in items} == {step - 1}
        for item in items:
            rows = len(item.sequence.segments[1].response.u32le) // 4
            assert sum(scores.rows.count for scores in item.scores) == rows
            assert {scores.source for scores in item.scores if scores.HasField("rows")} == {"tutor"}
            assert [scores.source for scores in item.scores if scores.HasField("reward")] == ["judge"]
        for batch in batches:
            lengths = [
                sum(len(one.context.u32le or one.response.u32le) // 4 for one in item.sequence.segments) for item in batch.items
            ]
            assert max(lengths) * len(lengths) <= 40 or len(lengths) == 1
    assert any(len(batches) > 1 for batches in world.student.batches.values())


@pytest.mark.parametrize("hit", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS)
async def test_dying_anywhere_costs_time_and_nothing_else(tmp_path: Path, undisturbed: bytes, point: str, hit: int) -> None:
    world = World(tmp_path / "killed")
    try:
        await world.run(KillAt(point, hit))
        died = False
    except Fault:
        died = True
    assert died or hit > 1, f"{point} was never reached"
    await world.run()
    assert world.student.now == undisturbed
    assert all(count == 1 for count in world.student.computed.values())
    steps = [event["step"] for event in map(json.loads, _lines(world)) if event["event"] == "step"]
    assert steps == [1, 2, 3]


async def test_a_verdict_is_asked_for_once_and_again_only_where_it_failed(tmp_path: Path, undisturbed: bytes) -> None:
    world = World(tmp_path / "graded")
    world.teacher.grade_errors = [EngineFailed("the provider is away")] * 2
    await world.run()
    assert world.student.now == undisturbed
    assert set(world.teacher.graded.values()) == {1}
    assert len(world.teacher.graded) == 3 * 4
    wrong = World(tmp_path / "wrong")
    wrong.teacher.grade_errors = [InvalidArgument("no such guidance")]
    with pytest.raises(InvalidArgument, match="guidance"):
        await wrong.run()


async def test_a_group_that_is_compared_is_asked_for_whole_also_where_a_part_has_its_verdict(tmp_path: Path) -> None:
    made = recipe()
    made["terms"][1]["signal"]["params"]["grader"] = "pairwise"  # pyright: ignore
    worlds = [World(tmp_path / name) for name in ("undisturbed", "failed")]
    for world, errors in zip(worlds, (0, 1), strict=True):
        world.plan, world.teacher.grader = plan(made), "pairwise"
        world.teacher.grade_errors = [EngineFailed("the provider is away")] * errors
        await world.run()
    assert worlds[0].student.now == worlds[1].student.now
    assert (worlds[0].teacher.group_sizes, worlds[1].teacher.group_sizes) == ([2] * 6, [2] * 7)


async def test_a_rollout_without_a_verdict_has_no_reward_and_its_cost_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.teacher.silent_on = "prompt 0"
    await world.run()
    told = [event["grading"] for event in world.events if event["event"] == "step"]
    assert [(one["verdicts"], one["missing"], one["calls"], one["prompt_tokens"]) for one in told] == [
        (4, missing, 4, 40) for missing in (2, 0, 2)
    ]
    items = [item for batches in world.student.batches.values() for batch in batches for item in batch.items]
    without = {item.id.prompt for item in items if not any(scores.HasField("reward") for scores in item.scores)}
    assert without == {0}


async def test_dying_again_and_again_still_ends(tmp_path: Path, undisturbed: bytes) -> None:
    world = World(tmp_path / "killed")
    for point in POINTS:
        try:
            await world.run(KillAt(point))
        except Fault:
            continue
    await world.run()
    assert world.student.now == undisturbed


async def test_a_student_that_dies_is_fed_again_from_its_durable_step(tmp_path: Path, undisturbed: bytes) -> None:
    world = World(tmp_path / "dies")
    world.student.die_after_step = {1, 3}
    await world.run()
    assert world.student.now == undisturbed
    assert world.student.computed == {1: 2, 2: 1, 3: 2}


async def test_a_broken_stream_is_asked_again_for_what_is_missing_under_the_next_attempt(
    tmp_path: Path, undisturbed: bytes
) -> None:
    world = World(tmp_path / "breaks")
    world.rollout.break_after = [1, 2, 0]
    await world.run()
    assert world.student.now == undisturbed
    assert world.rollout.asked[0][3:] == (2, 0)
    again = [one for one in world.rollout.asked if one[4] > 0]
    assert again
    assert {samples for _, _, _, samples, _ in again} == {2}, "deterministic mode asks for whole groups"


async def test_outside_deterministic_mode_only_missing_samples_are_asked_again(tmp_path: Path) -> None:
    world = World(tmp_path, plan=plan(deterministic=False))
    world.rollout.break_after = [1]
    await world.run()
    again = [one for one in world.rollout.asked if one[4] > 0]
    assert [(prompt, first, samples) for _, prompt, first, samples, _ in again] == [(0, 1, 1), (1, 0, 2)]


async def test_a_rollout_service_that_restarted_gets_its_weights_again(tmp_path: Path, undisturbed: bytes) -> None:
    world = World(tmp_path / "restarts")
    loads = world.rollout.calls
    original = world.rollout.generate

    def forgetful(request, *, deadline_s):
        if request.step == 2 and request.sampling.temperature != 0 and loads["forgot"] == 0:
            loads["forgot"] += 1
            world.rollout.weights = world.rollout.weights.__class__("student", manifest_sha256=bytes(32))
        return original(request, deadline_s=deadline_s)

    world.rollout.generate = forgetful  # pyright: ignore[reportAttributeAccessIssue]
    await world.run()
    assert world.student.now == undisturbed
    assert loads["load_weights"] == 5


async def test_a_failed_rollout_is_asked_again_or_ends_the_run_by_its_kind(tmp_path: Path, undisturbed: bytes) -> None:
    world = World(tmp_path / "passing")
    world.rollout.fail = [EngineFailed("the engine died")]
    await world.run()
    assert world.student.now == undisturbed
    wrong = World(tmp_path / "wrong")
    wrong.rollout.fail = [InvalidArgument("the prompt is too long")]
    with pytest.raises(InvalidArgument, match="too long"):
        await wrong.run()


@dataclass
class LoseAt(NoHooks):
    """The queue forgets something at the nth hits of a point."""

    world: World
    kind: str
    point: str
    hits: tuple[int, ...]
    seen: int = 0
    lost: int = 0

    def reached(self, point: str) -> None:
        if point == self.point:
            self.seen += 1
            if self.seen in self.hits:
                self.lost += 1
                self.world.lose(self.kind)


@pytest.mark.parametrize("kind", ["", "out", "task", "ids", "ready", "leases", "flows", "blob", "subs"])
@pytest.mark.parametrize(("point", "hits"), [("rows read", (1, 4)), ("rollout journaled", (1, 4))])
async def test_what_the_queue_loses_is_made_good(
    tmp_path: Path, undisturbed: bytes, kind: str, point: str, hits: tuple[int, ...]
) -> None:
    """Also after the rollouts were closed and before anybody scored: then the tasks come back with their ids inside."""
    world = World(tmp_path / "lost", patience=replace(PATIENCE, deadline_s=20.0))  # a busy machine is no failure
    hooks = LoseAt(world, kind, point, hits)
    async with world.working(slow=0.005):
        await world.learner(hooks).run()
    assert hooks.lost == len(hits)
    assert world.student.now == undisturbed


async def test_logs_lost_before_anybody_read_them_come_back_as_ids_inside_the_task(tmp_path: Path, undisturbed: bytes) -> None:
    world, workers = World(tmp_path / "lost"), []

    class LoseThenWork(NoHooks):
        closed = 0

        def reached(self, point: str) -> None:
            self.closed += point == "rollout journaled"
            if self.closed == 4 and not workers:
                world.lose("ids")
                workers.append(asyncio.create_task(work(world.queue)))

    await world.learner(LoseThenWork()).run()
    workers[0].cancel()
    flow, names = Flow(TEACHER, "local", RUN), [f"{RUN}/0/{prompt}/{sample}/0/tutor" for prompt in (0, 1) for sample in (0, 1)]
    found = [await world.queue.task_info(flow, name) for name in names]
    assert {info.task.WhichOneof("source") for info in found if info} == {"inline"}
    assert world.student.now == undisturbed


async def test_a_second_learner_is_refused_while_one_runs(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run()
    async with await LearnerJournal.open(RunFolder.of(tmp_path, RUN).journal, RUN):
        with pytest.raises(Conflict, match="is being written by process"):
            await world.learner().run()


async def test_a_journal_that_is_behind_the_student_or_ahead_of_it_is_refused(tmp_path: Path) -> None:
    ahead = World(tmp_path / "ahead")
    await ahead.run()
    ahead.student.applied, ahead.student.durable = [], 0
    with pytest.raises(Conflict, match="the student has lost run"):
        await ahead.run()
    behind = World(tmp_path / "behind")
    behind.student = ahead.student
    behind.student.applied = [(1, b"", b"")]
    with pytest.raises(Conflict, match="this journal ends at 0"):
        await behind.run()


async def test_what_an_older_attempt_left_behind_is_taken_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(Fault):
        await world.run(KillAt("tasks opened"))
    await world.run()
    first = await world.queue.task_info(Flow(TEACHER, "local", RUN), task_name(RolloutId(RUN, 0, 0, 0, 0), "tutor"))
    assert first is not None
    assert first.state is TaskState.CANCELLED


async def test_ending_a_finished_run_again_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run()
    before = world.student.now
    await world.run()
    assert world.student.now == before
    assert world.student.computed == {1: 1, 2: 1, 3: 1}


async def test_weights_are_published_at_the_recipes_cadence(tmp_path: Path) -> None:
    world = World(tmp_path, plan=plan(publish_every_steps=3, steps=4, checkpoint_every_steps=1))
    await world.run()
    versions = {
        step: {item.behaviour.versions_u32le[0] for batch in batches for item in batch.items}
        for step, batches in world.student.batches.items()
    }
    assert versions == {1: {0}, 2: {0}, 3: {0}, 4: {3}}
    assert world.rollout.weights.step == 4


@pytest.mark.parametrize("point", ["rollout journaled", "step journaled", "journal compacted"])
async def test_rare_publishing_survives_a_death_too(tmp_path: Path, point: str) -> None:
    whole = World(tmp_path / "whole", plan=plan(publish_every_steps=3, steps=4))
    await whole.run()
    world = World(tmp_path / "killed", plan=plan(publish_every_steps=3, steps=4))
    for hit in (1, 2):
        try:
            await world.run(KillAt(point, hit))
        except Fault:
            world.student.die()
    await world.run()
    assert world.student.now == whole.student.now


def _lines(world: World) -> list[str]:
    return (world.root / RUN / "events.jsonl").read_text().splitlines()
