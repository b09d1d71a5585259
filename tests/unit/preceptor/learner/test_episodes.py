"""Rollouts of several turns in a run: what the environment is told, what of them trains, and that a kill costs no episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from preceptor import wire
from preceptor.errors import ConfigurationError, NotFound, Unsupported
from preceptor.learner import EvaluationItem, RunPlan, evaluation_items, training_tasks
from preceptor.planning import estimate_run
from preceptor.planning.memory import tokens_of_step
from preceptor.queue import LogName, LogWriter
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.types import RaggedIds
from preceptor_proto.v1 import common_pb2, rollout_pb2, student_pb2
from tests.unit.preceptor.learner.world import RUN, TENANT, FakeRollout, Fault, KillAt, World, number, plan, recipe

SAID = 7  # the id that the environment says, twice
ENVIRONMENT = {"name": "sums", "task_fields": ["answer"], "max_turns": 3, "max_observation_tokens": 4}


def played(**changes: object) -> dict[str, object]:
    """The recipe of the world, its judge replaced by an environment."""
    raw = recipe()
    raw["sources"] = {"rollouts": {"samples_per_prompt": 2, "max_response_tokens": 9, "stop": ["="], "environment": ENVIRONMENT}}
    raw["teachers"] = {"tutor": {"model": "tutor-model"}}
    scored, rewarded = raw["terms"]  # type: ignore[misc]
    raw["terms"] = [scored, {key: value for key, value in rewarded.items() if key != "teacher"} | {"signal": "environment"}]
    raw["evaluation"] = {"path": "unused", "every_steps": 3, "max_response_tokens": 4, "source": "rollouts"}
    return raw | changes


def plan_of(raw: dict[str, object]) -> RunPlan:
    tasks = tuple(f'{{"answer": "{place}"}}' for place in range(5))
    items = (EvaluationItem("q", "1", '{"answer": "1"}'), EvaluationItem("r", "0", '{"answer": "0"}'))
    prompts = tuple(f"prompt {place}" for place in range(5))
    return RunPlan(RUN, TENANT, compile_recipe(recipe_from(raw)), prompts, items, tasks={"rollouts": tasks})


@dataclass
class Playing(FakeRollout):
    """Draws every rollout in turns of at most four tokens, with two tokens of the environment between them."""

    requests: list[rollout_pb2.GenerateRequest] = field(default_factory=list)
    offers: tuple[str, ...] = ("sums",)
    engine: str = "hf"

    async def describe(self, *, deadline_s: float) -> rollout_pb2.RolloutDescribeReply:
        reply = await super().describe(deadline_s=deadline_s)
        reply.environments.extend(self.offers)
        reply.student.engine = self.engine
        return reply

    def generate(self, request: rollout_pb2.GenerateRequest, *, deadline_s: float):
        self.requests.append(request)
        return super().generate(request, deadline_s=deadline_s)

    async def _draw(
        self, request: rollout_pb2.GenerateRequest, group: rollout_pb2.GeneratePrompt, sample: int
    ) -> rollout_pb2.RolloutResult:
        unlogged = rollout_pb2.GenerateRequest()
        unlogged.CopyFrom(request)
        unlogged.write_logs = False
        whole = await super()._draw(unlogged, group, sample)
        turns = list(_turns(wire.ids_from_proto(whole.sequence.segments[1].response).tolist()))
        del whole.sequence.segments[1:]
        whole.sequence.segments.extend(turns)
        whole.reward = number(request.seed, request.step, group.prompt, sample, group.task_json) % 5
        whole.finish_reason = common_pb2.FINISH_REASON_ENVIRONMENT
        writer = LogWriter(self.queue, LogName.of(TENANT, request.job, wire.rollout_id_from_proto(whole.id)))
        for turn in turns:
            ids = wire.ids_from_proto(turn.response).tolist()
            lists = RaggedIds.from_rows([[(one + 1) % 50, (one + 2) % 50] for one in ids])
            await writer.append(turn, candidates=wire.ragged_to_proto(lists) if ids else None)
        await writer.close(common_pb2.FINISH_REASON_ENVIRONMENT)
        return whole


def _turns(ids: list[int]) -> Iterator[common_pb2.Segment]:
    for start in range(0, len(ids), 4):
        if start:
            yield common_pb2.Segment(context=wire.ids_to_proto([SAID, SAID]))
        yield common_pb2.Segment(response=wire.ids_to_proto(ids[start : start + 4]))


class GameWorld(World):
    """The world with somebody who answers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rollout = self.game = Playing(self.queue)


def world_of(root: Path, raw: dict[str, object] | None = None) -> GameWorld:
    return GameWorld(root, plan=plan_of(raw or played()))


def items_of(world: World) -> list[student_pb2.TrainItem]:
    return [item for batches in world.student.batches.values() for batch in batches for item in batch.items]


@pytest.fixture
async def undisturbed(tmp_path: Path) -> bytes:
    world = world_of(tmp_path / "undisturbed")
    await world.run()
    return world.student.now


async def test_the_environment_is_told_of_each_prompt_and_its_reward_reaches_the_student(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await world.run()
    drawn = [one for one in world.game.requests if one.sampling.temperature]
    use = rollout_pb2.EnvironmentUse(name="sums", max_turns=3, max_observation_tokens=4)
    assert all(one.environment == use for one in drawn)
    assert {(group.prompt, group.task_json) for one in drawn for group in one.prompts} == {
        (place, f'{{"answer": "{place}"}}') for place in range(5)
    }
    rewards = set()
    for item in items_of(world):
        (given,) = (scores.reward for scores in item.scores if scores.source == "environment")
        task = f'{{"answer": "{item.id.prompt}"}}'
        assert given == number(0, item.id.step, item.id.prompt, item.id.sample, task) % 5
        rewards.add(given)
    assert len(rewards) > 1
    told = [event for event in world.events if event["event"] == "step"]
    assert all(1 <= event["turns"] <= 3 and 0 <= event["environment_reward"] <= 4 for event in told)


async def test_teachers_score_what_was_drawn_and_nothing_that_the_environment_said(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await world.run()
    assert any(len(item.sequence.segments) > 2 for item in items_of(world))
    for item in items_of(world):
        drawn = sum(len(segment.response.u32le) // 4 for segment in item.sequence.segments)
        rows = [scores.rows for scores in item.scores if scores.source == "tutor"]
        assert [part.start for part in rows] == [sum(one.count for one in rows[:place]) for place in range(len(rows))]
        assert sum(part.count for part in rows) == drawn
        assert all(len(part.sampled_f32le) == 4 * part.count for part in rows)


async def test_evaluations_take_turns_as_the_source_does(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await world.run()
    asked = [one for one in world.game.requests if not one.sampling.temperature]
    assert asked
    for one in asked:
        assert (one.environment.name, list(one.sampling.stop)) == ("sums", ["="])
        assert [group.task_json for group in one.prompts] == ['{"answer": "1"}', '{"answer": "0"}']
    raw = played()
    del raw["evaluation"]["source"]  # type: ignore[attr-defined]
    plain = world_of(tmp_path / "plain", raw)
    await plain.run()
    assert not any(
        one.HasField("environment") or one.sampling.stop for one in plain.game.requests if not one.sampling.temperature
    )


@pytest.mark.parametrize("hit", [1, 2, 3])
@pytest.mark.parametrize(
    "point", ["tasks opened", "rollout received", "rollout journaled", "rows journaled", "batch journaled", "step applied"]
)
async def test_a_kill_costs_no_episode(tmp_path: Path, undisturbed: bytes, point: str, hit: int) -> None:
    """It is whole in the journal, or drawn again under the same seed, told the same task."""
    world = world_of(tmp_path / "killed")
    with pytest.raises(Fault):
        await world.run(KillAt(point, hit))
    await world.run()
    assert world.student.now == undisturbed


async def test_a_stream_that_breaks_between_episodes_is_asked_for_whole_groups_again(tmp_path: Path, undisturbed: bytes) -> None:
    world = world_of(tmp_path / "breaks")
    world.rollout.break_after = [1, 2, 0]
    await world.run()
    assert world.student.now == undisturbed
    again = [group for one in world.game.requests for group in one.prompts if group.attempt]
    assert again
    assert {(group.samples, bool(group.task_json)) for group in again} == {(2, True)}


async def test_the_control_deals_the_rewards_of_the_environment_too(tmp_path: Path) -> None:
    straight, dealt = world_of(tmp_path / "straight"), world_of(tmp_path / "dealt")
    dealt.plan = replace(dealt.plan, control="permute_scores")
    for world in (straight, dealt):
        await world.run()
    ours, theirs = (
        [[scores.reward for scores in item.scores if scores.source == "environment"] for item in items_of(world)]
        for world in (straight, dealt)
    )
    assert sorted(ours) == sorted(theirs)
    assert ours != theirs


@pytest.mark.parametrize(
    ("offers", "engine", "error", "field", "says"),
    [
        (("summs",), "hf", NotFound, "sources.rollouts.environment.name", "summs"),
        ((), "hf", NotFound, "sources.rollouts.environment.name", "--environments"),
        (("sums",), "draws-once", Unsupported, "sources.rollouts.environment", "another engine"),
    ],
)
async def test_what_the_service_cannot_play_is_said_before_anything_is_drawn(
    tmp_path: Path, offers: tuple[str, ...], engine: str, error: type[Exception], field: str, says: str
) -> None:
    world = world_of(tmp_path)
    world.game.offers, world.game.engine = offers, engine
    with pytest.raises(error) as refused:
        await world.run()
    assert refused.value.field == field  # type: ignore[attr-defined]
    assert says in refused.value.hint  # type: ignore[attr-defined]
    assert not world.game.requests


def test_tasks_are_fields_of_the_data_as_they_stand(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "1+1", "answer": "2", "info": {"digits": [2]}}\n{"prompt": "2+2", "answer": "4", "info": null}\n')
    raw = played(data={"path": str(data)})
    raw["sources"]["rollouts"]["environment"] = ENVIRONMENT | {"task_fields": ["answer", "info"]}  # type: ignore[index]
    raw["evaluation"]["path"] = str(data)  # type: ignore[index]
    tasks = ('{"answer": "2", "info": {"digits": [2]}}', '{"answer": "4", "info": null}')
    assert training_tasks(recipe_from(raw)) == {"rollouts": tasks}
    assert tuple(item.task_json for item in evaluation_items(recipe_from(raw))) == tasks
    raw["sources"]["rollouts"]["environment"] = ENVIRONMENT | {"task_fields": ["world"]}  # type: ignore[index]
    with pytest.raises(ConfigurationError, match="has no 'world'"):
        training_tasks(recipe_from(raw))
    with pytest.raises(ConfigurationError, match="not every prompt has a task"):
        plan(played())


def test_an_estimate_counts_turns_and_what_is_said_between_them() -> None:
    single = played()
    single["sources"] = {"rollouts": {"samples_per_prompt": 2, "max_response_tokens": 9}}
    single["terms"] = [played()["terms"][0]]  # type: ignore[index]
    single["evaluation"] = None
    several, one = plan_of(played()), plan(single)
    rollouts, said = 3 * 2 * 2, 2 * 4
    ours, theirs = estimate_run(several, {}).work, estimate_run(one, {}).work
    assert (ours.turns.low, ours.turns.high) == (rollouts, 3 * rollouts)
    assert (ours.observed.low, ours.observed.high) == (0, rollouts * said)
    assert (theirs.turns.high, theirs.observed.high) == (0, 0)
    assert (ours.drawn, ours.scored) == (theirs.drawn, theirs.scored)
    assert ours.trained.high - theirs.trained.high == rollouts * said
    assert tokens_of_step(several).high - tokens_of_step(one).high == 2 * 2 * said
    assert {"turns of rollouts", "tokens that environments say"} <= {line.what for line in estimate_run(several, {}).lines()}


async def test_a_run_of_turns_spends_what_was_said_before_it(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    estimate = estimate_run(world.plan, {})
    await world.run()
    found = items_of(world)
    segments = [segment for item in found for segment in item.sequence.segments]
    assert sum(segment.HasField("response") for segment in segments) in estimate.work.turns
    assert (
        sum(len(segment.context.u32le) // 4 for item in found for segment in item.sequence.segments[1:]) in estimate.work.observed
    )
