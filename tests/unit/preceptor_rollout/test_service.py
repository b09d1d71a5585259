"""The service behind its doors: what it renders, draws, logs, swaps and refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace

import httpx
import numpy as np
import pytest

from examples.tiny.decode import MODEL_DIRS
from examples.tiny.task import load
from examples.tiny.tokenizer import BOS_ID, EOS_ID, prompt_ids
from preceptor import wire
from preceptor.client import Connection, RolloutClient, Target
from preceptor.client.rollout import Conversation, FailedRollout, Message, Prompt, user_says
from preceptor.errors import (
    Conflict,
    Fenced,
    InvalidArgument,
    PreceptorError,
    TooLarge,
    Unavailable,
    Unsupported,
    VersionGone,
)
from preceptor.learner.callers import ROLLOUT, GrpcCaller, RolloutCalls
from preceptor.queue import Flow, MemoryQueue, Subscriber, TaskState
from preceptor.queue.space import KeySpace
from preceptor.types import FinishReason, Rollout, RolloutId, Want, as_ids
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2
from tests.unit.preceptor_rollout.drawing import bits, draw, request
from tests.unit.preceptor_rollout.serving import assert_logged, by_name, log_of, options, prompts_of, publish, serving

LONG = {"max_new_tokens": 480, "ignore_eos": True}


def wire_connection(house) -> Connection:
    """For messages that the typed client never sends."""
    return Connection(Target(f"127.0.0.1:{house.grpc_port}"))


async def collect(client, prompts, wanted) -> list:
    return [one async for one in client.generate(prompts, wanted)]


# ---------------------------------------------------------------- rendering


async def test_render_is_the_template_for_conversations_and_nothing_added_for_text(engine):
    problem = load("distil")[0].prompt
    async with serving() as (_, client):
        turns = Conversation((Message("user", "1+1"), Message("assistant", "2"), Message("user", "2+2")))
        rendered = await client.render([user_says(problem), problem, "", turns])
        info = await client.describe()
    assert rendered.ids[0].tolist() == prompt_ids(problem)
    assert rendered.ids[1].tolist() == [i for i in prompt_ids(problem) if i != BOS_ID][1:-1]
    assert rendered.ids[2].tolist() == []
    assert rendered.ids[3].tolist().count(EOS_ID) == 1
    assert info.eos_ids == (EOS_ID,)
    (served,) = engine.describe()
    assert info.student == served
    assert (rendered.tokenizer_sha256, rendered.template_sha256) == (served.tokenizer_sha256, served.template_sha256)


async def test_a_tokenizer_without_a_template_renders_text_only(tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(MODEL_DIRS["student"], folder)
    (folder / "chat_template.jinja").unlink()
    async with serving(model=str(folder)) as (_, client):
        assert len((await client.render(["1+1"])).ids[0]) == 3
        with pytest.raises(Unsupported, match="no chat template") as failed:
            await client.render(["1+1", user_says("1+1")])
    assert failed.value.field == "items[1].conversation"


async def test_what_the_template_refuses_is_the_callers_mistake(tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(MODEL_DIRS["student"], folder)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only users speak here') }}")
    async with serving(model=str(folder)) as (_, client):
        with pytest.raises(InvalidArgument, match="only users speak here") as failed:
            await client.render([user_says("1+1")])
    assert failed.value.field == "items[0].conversation.messages"


# ---------------------------------------------------------------- generating


async def test_the_door_gives_what_the_engine_draws(engine):
    want = draw(engine, request({p.prompt: p.context.tolist() for p in prompts_of(4)}, 2, deterministic=True))
    async with serving() as (_, client):
        got = by_name(await collect(client, prompts_of(4), options(deterministic=True)))
    assert {name: bits(one) for name, one in got.items()} == {name: bits(one) for name, one in want.items()}
    assert all(one.sequence.segments[0].ids.tolist() == p.context.tolist() for p in prompts_of(4) for one in [got[p.prompt, 1]])


async def test_the_sync_client_sorts_what_it_collects():
    async with serving() as (house, _):

        def use():
            with RolloutClient(f"127.0.0.1:{house.grpc_port}") as client:
                return by_name(client.generate(prompts_of(3), options(max_new_tokens=3))).values()

        rollouts = await asyncio.to_thread(use)
    assert list(by_name(rollouts)) == sorted(by_name(rollouts)) == [(p, s) for p in range(3) for s in range(2)]
    assert {one.finish_reason for one in rollouts} == {FinishReason.LENGTH}


@pytest.mark.parametrize(
    ("prompts", "wanted", "error", "field"),
    [
        ([Prompt(0, as_ids([]))], {}, InvalidArgument, "prompts[0].context"),
        ([Prompt(0, as_ids([1, 261]))], {}, InvalidArgument, "prompts[0].context"),
        ([Prompt(0, as_ids([1] * 600))], {}, TooLarge, "prompts[0].context"),
        ([Prompt(0, as_ids([1] * 500))], {}, TooLarge, "sampling.max_new_tokens"),
        ([Prompt(0, as_ids([1]), samples=0)], {}, InvalidArgument, "prompts[0].samples"),
        ([Prompt(0, as_ids([1]), samples=9)], {}, TooLarge, "prompts"),
        ([Prompt(1 << 32, as_ids([1]))], {}, InvalidArgument, "prompts[0].prompt"),
        ([Prompt(0, as_ids([1]), 2), Prompt(0, as_ids([1]), 1, 1)], {}, InvalidArgument, "prompts[1]"),
        ([Prompt(0, as_ids([1]))], {"step": 1 << 32}, InvalidArgument, "step"),
        ([Prompt(0, as_ids([1]))], {"student_topk": 262}, InvalidArgument, "student_topk"),
        ([Prompt(0, as_ids([1]))], {"stop": ("a", "")}, InvalidArgument, "sampling.stop[1]"),
        ([Prompt(0, as_ids([1]))], {"extra_stop_ids": (300,)}, InvalidArgument, "sampling.extra_stop_ids[0]"),
        ([Prompt(0, as_ids([1]))], {"max_new_tokens": 0}, InvalidArgument, "sampling.max_new_tokens"),
        ([Prompt(0, as_ids([1]))], {"top_p": 0.0}, InvalidArgument, "sampling.top_p"),
        ([Prompt(0, as_ids([1]))], {"write_logs": True}, Unsupported, "write_logs"),
        ([Prompt(0, as_ids([1]))], {"min_weight_step": 4}, Unavailable, "min_weight_step"),
    ],
)
async def test_what_cannot_be_drawn_is_refused_by_name(door, prompts, wanted, error, field):
    with pytest.raises(error) as failed:
        await collect(door, prompts, options(**wanted))
    assert failed.value.field == field
    assert failed.value.value
    assert failed.value.limit


@pytest.fixture
async def door():
    async with serving(max_batch_items=8) as (_, client):
        yield client


async def test_an_engine_that_is_not_exact_refuses_deterministic_mode():
    async with serving(dtype="bf16") as (_, client):
        with pytest.raises(Unsupported) as failed:
            await collect(client, prompts_of(1), options(deterministic=True))
        assert failed.value.field == "deterministic"
        assert len(await collect(client, prompts_of(1), options())) == 2


async def test_a_policy_that_is_none_is_refused_and_not_ignored():
    async with serving() as (house, _):
        message = request({0: [1, 5]}, policy_json='{"mix": 0.5}')
        async with wire_connection(house) as connection:
            calls = RolloutCalls(GrpcCaller(connection, ROLLOUT))
            with pytest.raises(InvalidArgument) as failed:
                await anext(calls.generate(message, deadline_s=10))
    assert failed.value.field == "policy_json.policy"


# ---------------------------------------------------------------- response logs


async def test_logs_hold_exactly_what_the_stream_returned():
    queue = MemoryQueue()
    async with serving(queue, log_chunk_tokens=4) as (_, client):
        rollouts = await collect(client, prompts_of(3), options(write_logs=True, student_topk=5))
    for rollout in rollouts:
        view = await assert_logged(queue, rollout)
        assert [entry.offset for entry in view.entries] == list(range(0, view.length, 4))


async def test_every_append_pokes_the_tasks_on_the_log():
    queue = MemoryQueue()
    rollout, flow = RolloutId("r", 3, 0, 1), Flow("teacher", "local", "job")
    task = teacher_pb2.ScoreTask(
        schema=1,
        task_id="t",
        rollout=wire.rollout_id_to_proto(rollout),
        teacher=wire.choice_to_proto("teacher"),
        want=wire.want_to_proto(Want(sampled=True)),
    )
    await queue.create(flow, task)
    before = await queue.task_info(flow, "t")
    await queue.subscribe(log_of(rollout), Subscriber("teacher", "t"))
    async with serving(queue) as (_, client):
        await collect(client, prompts_of(1), options(write_logs=True))
    after = await queue.task_info(flow, "t")
    assert before
    assert after
    assert (before.state, after.state) == (TaskState.IDLE, TaskState.READY)


async def test_another_content_under_a_rollouts_name_fails_that_rollout_alone():
    queue = MemoryQueue()
    taken = rollout_pb2.LogEntry(schema=1, segment=common_pb2.Segment(response=wire.ids_to_proto([250])))
    await queue.append(log_of(RolloutId("r", 3, 1, 0)), taken)
    async with serving(queue) as (_, client):
        outcomes = by_name(await collect(client, prompts_of(2), options(write_logs=True)))
    failed = outcomes.pop((1, 0))
    assert isinstance(failed, FailedRollout)
    assert isinstance(failed.error, Conflict)
    assert len(outcomes) == 3
    assert all(isinstance(one, Rollout) for one in outcomes.values())


class Forgetful(MemoryQueue):
    """Loses every log once, when its second entry has been written."""

    def __init__(self) -> None:
        self.space = KeySpace()
        super().__init__(space=self.space)
        self.lost: set[str] = set()

    async def append(self, log, entry):
        appended = await super().append(log, entry)
        if entry.offset and log.ids not in self.lost:
            self.lost.add(log.ids)
            assert self.space.discard(log.ids)
        return appended


async def test_a_log_that_was_lost_is_written_again_from_its_length():
    queue = Forgetful()
    async with serving(queue, log_chunk_tokens=4) as (_, client):
        rollouts = await collect(client, prompts_of(2), options(write_logs=True))
    assert len(queue.lost) == 4
    for rollout in rollouts:
        view = await queue.read(log_of(rollout.id))
        ids = [i for e in view.entries for i in wire.ids_from_proto(e.segment.response).tolist()]
        assert ids == rollout.sequence.response_ids.tolist()
        assert view.finish_reason == rollout.finish_reason


async def test_outcomes_and_tokens_are_counted():
    queue = MemoryQueue()
    taken = rollout_pb2.LogEntry(schema=1, segment=common_pb2.Segment(response=wire.ids_to_proto([250])))
    await queue.append(log_of(RolloutId("r", 3, 1, 0)), taken)
    async with serving(queue) as (house, client):
        outcomes = await collect(client, prompts_of(2), options(write_logs=True, max_new_tokens=5))
        value = house.meters.value
        assert value("preceptor_rollouts_total", outcome="length") == 3
        assert value("preceptor_rollouts_total", outcome="failed") == 1
        assert value("preceptor_generated_tokens_total") == 15
        assert value("preceptor_waiting_units") == 0
    assert len(outcomes) == 4


# ---------------------------------------------------------------- leaving, sharing


async def test_a_caller_who_leaves_stops_the_engine_and_makes_room():
    queue = MemoryQueue()
    async with serving(queue, log_chunk_tokens=2, running_units=1) as (_, client):
        stream = client.generate(prompts_of(1, 1), options(write_logs=True, **LONG))
        waiting = asyncio.ensure_future(anext(stream))
        log = log_of(RolloutId("r", 3, 0, 0))
        async with asyncio.timeout(30):
            await queue.follow(log, 3, 30)
            waiting.cancel()
            await asyncio.wait([waiting])
            await stream.aclose()
            assert len(await collect(client, prompts_of(1, 1), options(max_new_tokens=2))) == 1  # the only slot is free
        view = await queue.read(log)
        assert not view.closed
        assert view.length < LONG["max_new_tokens"]


async def test_jobs_take_turns():
    """A job that asked for one group does not wait for the sixteen that another asked for before."""
    async with serving(running_units=1) as (_, client):
        ended: list[str] = []

        async def one_job(job: str, count: int) -> None:
            async for _ in client.generate(prompts_of(count, 1), options(job=job, deterministic=True, **{"max_new_tokens": 12})):
                ended.append(job)

        large = asyncio.create_task(one_job("large", 16))
        await asyncio.sleep(0)
        await asyncio.gather(one_job("small", 1), large)
    assert ended.index("small") < 8


async def test_a_full_queue_says_when_to_come_back():
    async with serving(running_units=1, max_queue_tasks=2) as (_, client):
        with pytest.raises(PreceptorError) as failed:
            await collect(client, prompts_of(4, 1), options(deterministic=True))
        assert failed.value.code == "RESOURCE_EXHAUSTED"
        assert failed.value.retryable
        assert len(await collect(client, prompts_of(2, 1), options(deterministic=True))) == 2  # nothing was left behind


# ---------------------------------------------------------------- weights


async def test_a_run_draws_from_the_version_it_loaded_and_others_do_not(tmp_path):
    ref = publish(tmp_path, step=4)
    async with serving(weights_roots=str(tmp_path)) as (_, client):
        before = by_name(await collect(client, prompts_of(2), options(deterministic=True)))
        assert await client.load_weights(ref) > 0
        await client.load_weights(ref)  # again: nothing happens
        after = by_name(await collect(client, prompts_of(2), options(deterministic=True, min_weight_step=4)))
        other = by_name(await collect(client, prompts_of(2), options(deterministic=True, run="another")))
        assert (await client.describe()).student.model == ref
    assert {one.model for one in after.values()} == {ref}
    assert {step for one in after.values() for step in np.asarray(one.behaviour.versions).tolist()} == {4}
    assert {name: bits(one) for name, one in other.items()} == {name: bits(one) for name, one in before.items()}
    assert {name: bits(one) for name, one in after.items()} != {name: bits(one) for name, one in before.items()}


async def test_older_weights_are_refused_for_now_with_both_steps(tmp_path):
    ref = publish(tmp_path, step=4)
    async with serving(weights_roots=str(tmp_path)) as (_, client):
        await client.load_weights(ref)
        with pytest.raises(Unavailable) as failed:
            await collect(client, prompts_of(1), options(min_weight_step=5))
    assert (failed.value.value, failed.value.limit, failed.value.retryable) == ("5", "4", True)


async def test_versions_of_a_run_go_forward_and_are_what_their_manifest_says(tmp_path):
    old, new = publish(tmp_path, 4), publish(tmp_path, 5)
    restored = publish(tmp_path, 2, epoch=2)
    async with serving(weights_roots=str(tmp_path)) as (_, client):
        await client.load_weights(new)
        for wrong, error in [
            (old, Fenced),
            (replace(new, manifest_sha256=b"\1" * 32), Conflict),
            (replace(restored, manifest_sha256=b"\1" * 32), Conflict),
            (replace(new, step=9), VersionGone),
            (replace(new, run=""), InvalidArgument),
        ]:
            with pytest.raises(error):
                await client.load_weights(wrong)
        await client.load_weights(restored)
        assert (await client.describe()).student.model == restored


@pytest.mark.parametrize("policy", ["SWAP_POLICY_REPREFILL", "SWAP_POLICY_MIX"])
async def test_other_swap_policies_are_refused_with_the_one_there_is(tmp_path, policy):
    ref = wire.model_ref_to_proto(publish(tmp_path, 4))
    message = rollout_pb2.LoadWeightsRequest(version=rollout_pb2.WeightVersion(model=ref), policy=policy)
    async with serving(weights_roots=str(tmp_path)) as (house, _), wire_connection(house) as connection:
        with pytest.raises(Unsupported) as failed:
            await RolloutCalls(GrpcCaller(connection, ROLLOUT)).load_weights(message, deadline_s=10)
    assert (failed.value.field, failed.value.value, failed.value.limit) == ("policy", policy, "SWAP_POLICY_FINISH")


async def test_a_version_that_left_the_memory_is_loaded_again(tmp_path):
    ref = publish(tmp_path, 4)
    async with serving(weights_roots=str(tmp_path), max_versions=1) as (_, client):
        await client.load_weights(ref)
        for run, step in [("another", 0), ("r", 4), ("another", 0)]:
            (one,) = await collect(client, prompts_of(1, 1), options(run=run))
            assert one.model.step == step


# ---------------------------------------------------------------- REST


async def test_the_rest_door_speaks_text():
    problem = load("distil")[0].prompt
    async with serving() as (house, client), httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        rendered = (await http.post("/v1/render", json={"items": [{"text": "1+1"}]})).json()
        assert len(rendered["ids"][0]) == 3
        body = {"prompts": [{"messages": [{"role": "user", "content": problem}]}, {"ids": prompt_ids(problem)}], "samples": 2}
        reply = await http.post("/v1/generate", json={**body, "max_new_tokens": 24, "seed": 7, "step": 3, "temperature": 0})
        rollouts = reply.json()["rollouts"]
        greedy = await collect(client, [Prompt(0, as_ids(prompt_ids(problem)))], options(temperature=0.0))
    assert [(one["prompt"], one["sample"]) for one in rollouts] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert {json.dumps(one["ids"]) for one in rollouts} == {json.dumps(greedy[0].sequence.response_ids.tolist())}
    assert rollouts[0]["text"] == greedy[0].text
    assert rollouts[0]["logprob_behaviour"] == [0.0] * len(rollouts[0]["ids"])


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/generate", {"prompts": [{"text": "1", "ids": [1]}], "max_new_tokens": 4}, "prompts[0]"),
        ("/v1/generate", {"prompts": [{}], "max_new_tokens": 4}, "prompts[0]"),
        ("/v1/generate", {"prompts": [{"ids": [1]}], "max_new_tokens": 4, "temprature": 1}, "temprature"),
        ("/v1/generate", {"prompts": [{"ids": [1]}], "max_new_tokens": 4, "temperature": -1}, "sampling.temperature"),
        ("/v1/generate", {"prompts": [{"ids": [900]}], "max_new_tokens": 4}, "prompts[0].context"),
        ("/v1/render", {"items": [{"ids": [1]}]}, "items[0].ids"),
    ],
)
async def test_the_rest_door_names_what_is_wrong(path, body, field):
    async with serving() as (house, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        reply = await http.post(path, json=body)
    assert (reply.status_code, reply.json()["field"]) == (400, field)
