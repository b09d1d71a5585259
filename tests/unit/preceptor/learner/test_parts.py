"""The pure parts of a learner: what it plans, asks for and puts into a batch."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError, Conflict, Corrupt, InvalidArgument
from preceptor.journal import (
    BatchSent,
    LearnerState,
    RolloutClosed,
    RowsReceived,
    StepApplied,
    StepDurable,
    TaskOpened,
)
from preceptor.learner import Lane, Memory, RunFolder, Stage, next_work
from preceptor.learner.data import evaluation_items, training_answers, training_prompts
from preceptor.learner.ending import figures_of
from preceptor.learner.events import EventLog, StepTimes
from preceptor.learner.join import batch_of, item_tokens, micro_batches
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import (
    Terms,
    attempt_records,
    calls,
    generate_request,
    inline_task,
    missing_groups,
    prompt_taken,
    render_requests,
)
from preceptor.learner.tally import Tally
from preceptor.names import batch_digest
from preceptor.recipes import load_recipe, recipe_from
from preceptor.types import FinishReason, ModelRef, RaggedIds, Rollout, RolloutId, Sequence, Want
from preceptor.types.rollouts import Behaviour
from preceptor.wire import ids_to_proto, rollout_to_proto, sequence_from_proto, want_from_proto
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2
from tests.unit.preceptor.learner.world import RUN, TEACHER, plan, recipe

DIGEST = bytes(32)
TERMS = Terms(DIGEST)


def two_sources(**changes: object) -> dict[str, object]:
    raw = recipe(**changes)
    raw["sources"] = {
        "own": {"samples_per_prompt": 2, "max_response_tokens": 9},
        "shown": {"writer": "tutor", "samples_per_prompt": 3, "max_response_tokens": 5},
    }
    raw["teachers"] = {"tutor": {"model": TEACHER}}
    raw["terms"] = [
        {"on": "own", "teacher": "tutor", "signal": "sampled", "objective": "policy_gradient", "advantage": "k1"},
        {"on": "shown", "objective": "nll"},
    ]
    return raw


def with_prompts(of: RunPlan, index: int = 0) -> LearnerState:
    state = LearnerState(RUN)
    for prompt in of.prompts_of(index):
        state.apply(prompt_taken(of, index, prompt, ids_to_proto([prompt, 1])))
    return state


def closed(rollout: RolloutId, ids: list[int]) -> RolloutClosed:
    value = Rollout(rollout, Sequence.of([1, 2], ids), Behaviour(), FinishReason.EOS, ModelRef("m", manifest_sha256=DIGEST))
    return RolloutClosed(rollout, rollout_to_proto(value).SerializeToString())


# ---------------------------------------------------------------- plan


def test_prompts_go_round_the_data_in_its_order() -> None:
    assert [plan().prompts_of(index) for index in range(3)] == [[0, 1], [2, 3], [4, 0]]


def test_more_prompts_a_step_than_data_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="more prompts than the data has"):
        plan(prompts_per_step=6)


def test_evaluations_between_publications_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="weights that are not published"):
        plan(publish_every_steps=2)


def test_every_source_has_samples_of_its_own() -> None:
    found = plan(two_sources())
    assert [(slot.source.name, slot.first_sample, slot.end_sample) for slot in found.slots] == [("own", 0, 2), ("shown", 2, 5)]
    assert [found.slot_of(sample).source.name for sample in range(5)] == ["own"] * 2 + ["shown"] * 3
    assert [scorer.name for scorer in found.slot_of(0).scorers] == ["tutor"]
    assert found.slot_of(2).scorers == ()


# ---------------------------------------------------------------- stages


def stage(lane: Lane, state: LearnerState, todo: RunPlan, memory: Memory) -> Stage:
    return next_work(lane, state, todo, memory).stage


def test_stages_follow_from_the_journal() -> None:
    todo, memory = plan(steps=1), Memory()
    state = LearnerState(RUN)
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.PUBLISH
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.WAIT
    memory.published_step = 0
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.WEIGHTS
    memory.loaded_step = 0
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.EVALUATE
    memory.evaluated.add(0)
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.PROMPTS
    state = with_prompts(todo)
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.COLLECT
    groups = missing_groups(state, todo, todo.slots[0], 0)
    records = attempt_records(state, todo, todo.slots[0], groups, 0, TERMS)
    for record in records:
        state.apply(record)
    for key in list(todo.rollouts_of(0)):
        assert stage(Lane.TRAIN, state, todo, memory) is Stage.WAIT
        state.apply(closed(todo.attempt(key, 0), [5, 6]))
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.WAIT
    assert stage(Lane.SCORE, state, todo, memory) is Stage.GRADE
    opened = [record for record in records if isinstance(record, TaskOpened)]
    grades = {record.task_id for record in opened if teacher_pb2.ScoreTask.FromString(record.payload).HasField("grade")}
    for record in opened:
        if record.task_id in grades:
            state.apply(RowsReceived(record.task_id, TEACHER, "1-0", 0, 0, True, b""))
    assert stage(Lane.SCORE, state, todo, memory) is Stage.WAIT
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.SCORES
    for record in opened:
        if record.task_id not in grades:
            state.apply(RowsReceived(record.task_id, TEACHER, "1-0", 0, 2, True, b""))
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.BATCH
    batch = batch_of(state, todo, 0, 50)
    state.apply(batch)
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.TRAIN
    state.apply(StepApplied(1, batch.digest))
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.CHECKPOINT
    state.apply(StepDurable(1))
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.PUBLISH
    memory.published_step = 1
    assert stage(Lane.TRAIN, state, todo, memory) is Stage.DONE
    assert stage(Lane.SCORE, state, todo, memory) is Stage.DONE
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.WEIGHTS
    memory.loaded_step = 1
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.EVALUATE
    memory.evaluated.add(1)
    assert stage(Lane.GENERATE, state, todo, memory) is Stage.DONE


# ---------------------------------------------------------------- requests


def test_prompts_are_rendered_as_user_messages_some_at_a_time() -> None:
    requests = list(render_requests([str(number) for number in range(1500)]))
    assert [len(request.items) for request in requests] == [1024, 476]
    message = requests[0].items[3].conversation
    assert (message.messages[0].role, message.messages[0].content, message.add_generation_prompt) == ("user", "3", True)


def test_weights_older_than_the_steps_are_refused_by_the_request_itself() -> None:
    todo = plan(two_sources())
    own, shown = todo.slots
    assert generate_request(todo, own, 2, []).min_weight_step == 2
    assert generate_request(todo, own, 2, []).write_logs
    assert not generate_request(todo, shown, 2, []).HasField("min_weight_step")
    assert not generate_request(todo, shown, 2, []).write_logs, "nobody scores them"


PROGRESSIVE = {"schedule": "linear", "start": 2.0, "end": 8.0, "steps": 4}


@pytest.mark.parametrize(("horizon", "longest"), [(None, [9] * 6), (4, [4] * 6), (PROGRESSIVE, [2, 3, 5, 6, 8, 8])])
def test_a_sources_horizon_and_early_stop_are_asked_for_at_each_step(horizon: object, longest: list[int]) -> None:
    raw = two_sources()
    raw["sources"]["own"] |= {"horizon": horizon, "stop": ["\n", "."]}  # type: ignore[index]
    todo = plan(raw)
    asked = [generate_request(todo, todo.slots[0], index, []).sampling for index in range(6)]
    assert [one.max_new_tokens for one in asked] == longest
    assert {tuple(one.stop) for one in asked} == {("\n", ".")}
    assert todo.slots[0].source.longest == max(longest)
    other = generate_request(todo, todo.slots[1], 0, []).sampling
    assert (other.max_new_tokens, list(other.stop)) == (5, [])
    told = [figures_of(todo, {"step": index + 1, "metrics": {"mean_response_tokens": 1.0}}) for index in range(6)]
    assert [one["length"] for one in told] == [1 / max(5, most) for most in longest]


def test_a_call_stays_within_what_a_service_takes_at_once() -> None:
    groups = [rollout_pb2.GeneratePrompt(prompt=number, samples=100) for number in range(5)]
    assert [[one.prompt for one in call] for call in calls(groups)] == [[0, 1], [2, 3], [4]]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), unique=True), st.booleans())
def test_what_is_asked_again_is_what_is_missing(done: list[tuple[int, int]], deterministic: bool) -> None:
    raw = recipe(deterministic=deterministic)
    raw["sources"] = {"rollouts": {"samples_per_prompt": 4, "max_response_tokens": 9}}
    todo = plan(raw)
    state = with_prompts(todo)
    for prompt, sample in done:
        state.apply(closed(RolloutId(RUN, 0, prompt, sample, 0), [1]))
    groups = missing_groups(state, todo, todo.slots[0], 0)
    asked = {(group.prompt, group.first_sample + number) for group in groups for number in range(group.samples)}
    missing = {(prompt, sample) for prompt in range(2) for sample in range(4)} - set(done)
    whole = {(prompt, sample) for prompt, _ in missing for sample in range(4)}
    assert asked == (whole if deterministic else missing)
    assert {group.attempt for group in groups if any(prompt == group.prompt for prompt, _ in done)} <= {1}
    opened = [
        record for record in attempt_records(state, todo, todo.slots[0], groups, 0, TERMS) if isinstance(record, TaskOpened)
    ]
    assert {(one.rollout.prompt, one.rollout.sample) for one in opened} == missing


def test_a_task_without_its_log_asks_the_same_of_the_same_tokens() -> None:
    todo = plan()
    state = with_prompts(todo)
    records = attempt_records(state, todo, todo.slots[0], missing_groups(state, todo, todo.slots[0], 0), 0, TERMS)
    opened = next(record for record in records if isinstance(record, TaskOpened))
    task = teacher_pb2.ScoreTask.FromString(opened.payload)
    lists = RaggedIds.from_rows([[3, 4], [5]])
    rollout = Rollout(
        opened.rollout, Sequence.of([0, 1], [7, 8]), Behaviour(), FinishReason.EOS, ModelRef("m", manifest_sha256=DIGEST), lists
    )
    first = teacher_pb2.Envelope()
    first.receipt.model.name = "exactly-this"
    whole = inline_task(task, rollout, first.SerializeToString())
    assert whole.task_id == task.task_id
    assert sequence_from_proto(whole.inline) == rollout.sequence
    task.context.CopyFrom(ids_to_proto([9, 9, 9]))  # what a view reads instead
    assert sequence_from_proto(inline_task(task, rollout, b"").inline) == Sequence.of([9, 9, 9], [7, 8])
    assert whole.teacher.exact.name == "exactly-this"
    before, after = want_from_proto(task.want), want_from_proto(whole.want)
    assert after.candidates is not None
    assert after.candidates.ids.tolist() == [3, 4, 5]
    assert replace(after, candidates=None, log_candidates=True) == before
    assert isinstance(before, Want)


# ---------------------------------------------------------------- batches


def train_item(tokens: int) -> student_pb2.TrainItem:
    item = student_pb2.TrainItem()
    item.sequence.segments.add().context.CopyFrom(ids_to_proto([1]))
    item.sequence.segments.add().response.CopyFrom(ids_to_proto([2] * (tokens - 1)))
    return item


@given(st.lists(st.integers(2, 30), min_size=1, max_size=30), st.integers(1, 60))
def test_packed_micro_batches_fit_the_budget_in_fewer_passes(lengths: list[int], budget: int) -> None:
    items = [train_item(one) for one in lengths]
    cut = [[item_tokens(item) for item in group] for group in micro_batches(items, budget, packed=True)]
    assert [one for group in cut for one in group] == lengths
    assert all(held(group) <= budget or len(group) == 1 for group in cut)
    assert all(held(left + right[:1]) > budget for left, right in pairwise(cut))
    assert len(cut) <= len(list(micro_batches(items, budget)))


def held(lengths: list[int]) -> int:
    """Tokens of the rows that first fit makes of these, by the definition: every row is as long as the longest."""
    rows: list[int] = []
    for place, length in enumerate(lengths):
        width = max(lengths[: place + 1])
        at = next((row for row, filled in enumerate(rows) if filled + length <= width), None)
        if at is None:
            rows.append(length)
        else:
            rows[at] += length
    return max(lengths) * len(rows)


@given(st.lists(st.integers(2, 30), min_size=1, max_size=30), st.integers(1, 60))
def test_micro_batches_fit_the_padded_budget_and_keep_the_order(lengths: list[int], budget: int) -> None:
    cut = [[item_tokens(item) for item in group] for group in micro_batches([train_item(one) for one in lengths], budget)]
    assert [one for group in cut for one in group] == lengths
    assert all(max(group) * len(group) <= budget or len(group) == 1 for group in cut)
    assert all(max(left + right[:1]) * (len(left) + 1) > budget for left, right in pairwise(cut))


def test_a_task_that_ended_early_stops_the_run() -> None:
    todo = plan(prompts_per_step=1)
    state = with_prompts(todo)
    for record in attempt_records(state, todo, todo.slots[0], missing_groups(state, todo, todo.slots[0], 0), 0, TERMS):
        state.apply(record)
        if isinstance(record, TaskOpened):
            state.apply(RowsReceived(record.task_id, TEACHER, "1-0", 0, 1, True, b""))
    for key in list(todo.rollouts_of(0)):
        state.apply(closed(todo.attempt(key, 0), [5, 6]))
    with pytest.raises(Corrupt, match="ended after row 1 of 2"):
        batch_of(state, todo, 0, 50)


def test_a_batch_is_named_by_its_bytes() -> None:
    todo = plan(two_sources(prompts_per_step=1))
    raw = todo.compiled
    quiet = replace(todo, compiled=replace(raw, teachers={}))
    state = with_prompts(quiet)
    for key in list(quiet.rollouts_of(0)):
        state.apply(closed(quiet.attempt(key, 0), [key.sample + 1]))
    batch = batch_of(state, quiet, 0, 50)
    assert isinstance(batch, BatchSent)
    assert batch.digest == batch_digest(batch.micro_batches)
    items = [item for payload in batch.micro_batches for item in student_pb2.MicroBatch.FromString(payload).items]
    assert [(item.source, item.group) for item in items] == [("own", "own/0")] * 2 + [("shown", "shown/0")] * 3


# ---------------------------------------------------------------- files


def test_data_that_cannot_be_read_names_file_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    raw = recipe()
    raw["data"] = {"path": str(path)}
    with pytest.raises(ConfigurationError, match="cannot be read"):
        training_prompts(recipe_from(raw))
    for content, complaint in (
        ("{", ":1: "),
        ("[1]\n", ":1 is no object"),
        ('{"prompt": "a"}\n\n{"text": "b"}\n', ":3 has no text 'prompt'"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigurationError, match=complaint):
            training_prompts(recipe_from(raw))
    path.write_text("\n")
    with pytest.raises(ConfigurationError, match="has no prompts"):
        training_prompts(recipe_from(raw))


def test_answers_stand_beside_their_prompts(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "1+1", "answer": "2"}\n{"prompt": "1+2", "answer": "3"}\n')
    raw = recipe()
    raw["data"] = {"path": str(path)}
    assert training_answers(recipe_from(raw)) == ()
    raw["data"]["answer_field"] = "answer"
    assert training_answers(recipe_from(raw)) == ("2", "3")
    raw["data"]["answer_field"] = "solution"
    with pytest.raises(ConfigurationError, match=":1 has no text 'solution'"):
        training_answers(recipe_from(raw))


def test_the_first_questions_are_asked(tmp_path: Path) -> None:
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(json.dumps({"prompt": str(n), "answer": str(n + 1)}) + "\n" for n in range(5)))
    raw = recipe()
    raw["evaluation"] = {"path": str(path), "prompts": 2, "max_response_tokens": 4}
    assert [(item.prompt, item.answer) for item in evaluation_items(recipe_from(raw))] == [("0", "1"), ("1", "2")]


def test_a_run_folder_is_taken_up_by_the_same_recipe_only(tmp_path: Path) -> None:
    folder = RunFolder.of(tmp_path, RUN)
    assert not folder.prepare(plan(), resume=False)
    with pytest.raises(Conflict, match="exists already"):
        folder.prepare(plan(), resume=False)
    assert folder.prepare(plan(), resume=True)
    with pytest.raises(Conflict, match="schedule"):
        folder.prepare(plan(steps=9), resume=True)
    with pytest.raises(Conflict, match="control"):
        folder.prepare(plan(control="permute_scores"), resume=True)
    with pytest.raises(InvalidArgument):
        RunFolder.of(tmp_path, "../elsewhere")


def test_a_run_goes_on_under_a_version_that_has_more_fields(tmp_path: Path) -> None:
    folder = RunFolder.of(tmp_path, RUN)
    folder.prepare(plan(), resume=False)
    written = yaml.safe_load(folder.recipe.read_text())
    del written["alarms"], written["schedule"]["staleness"]
    folder.recipe.write_text(yaml.safe_dump(written))
    assert folder.prepare(plan(), resume=True)
    with pytest.raises(Conflict, match="schedule"):
        folder.prepare(plan(deterministic=False, staleness=1), resume=True)


def test_the_recipe_in_a_run_folder_is_the_one_that_runs(tmp_path: Path) -> None:
    folder = RunFolder.of(tmp_path, RUN)
    folder.prepare(plan(), resume=False)
    again = load_recipe(folder.recipe)
    assert again.model_copy(update={"data": None, "evaluation": None}) == plan().compiled.recipe.model_copy(
        update={"data": None, "evaluation": None}
    )
    assert Path(again.data.path).is_absolute()


def test_events_are_told_once_and_half_a_line_is_cut_off(tmp_path: Path) -> None:
    path, told = tmp_path / "events.jsonl", []
    log = EventLog(path, told.append)
    tally = Tally(4, 0, 0.0, 0, 0, 0, 0, 0.5)
    log.step(1, StepTimes(), {"loss": float("nan")}, tally)
    log.step(1, StepTimes(), {"loss": 2.0}, tally)
    log.close()
    with path.open("a") as file:
        file.write('{"event": "st')
    again = EventLog(path, told.append)
    again.step(1, StepTimes(), {"loss": 2.0}, tally)
    again.step(2, StepTimes(), {"loss": 3.0}, tally)
    again.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, None), (2, 3.0)]
    assert len(told) == 2
