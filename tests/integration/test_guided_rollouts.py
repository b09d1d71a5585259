"""Rollouts with a teacher in the loop: the rollout service over the bundled student asks the teacher service over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.tiny.decode import MODEL_DIRS, load_model
from examples.tiny.tokenizer import prompt_ids
from preceptor import wire
from preceptor.client import AsyncRolloutClient
from preceptor.client.rollout import EnvironmentUse, FailedRollout
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.config import TeacherSettings
from preceptor.errors import PreceptorError, Unsupported
from preceptor.queue import MemoryQueue
from preceptor.recipes.behaviour import BehaviourSpec
from preceptor.recipes.schema import OpUse
from preceptor.types import Provenance, as_ids
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import running
from preceptor_teacher.service import TeacherService
from tests.unit.preceptor_rollout.drawing import bits, tiny_prompts
from tests.unit.preceptor_rollout.serving import by_name, log_of, options, prompts_of, serving

TEACHER = "tiny-teacher"


def guided(op: str, **params) -> BehaviourSpec:
    return BehaviourSpec(policy=OpUse(op=op, params=params), teacher=TEACHER)


@asynccontextmanager
async def pair(queue: MemoryQueue | None = None, **settings) -> AsyncGenerator[AsyncRolloutClient]:
    async with AsyncExitStack() as stack:
        teacher = TeacherService(place_engine=in_this_process)
        spoken = TeacherSettings(grpc_port=0, rest_port=0, model=f"{TEACHER}={MODEL_DIRS['teacher']}")
        house = await stack.enter_async_context(running(teacher, spoken))
        _, client = await stack.enter_async_context(serving(queue, teacher=f"127.0.0.1:{house.grpc_port}", **settings))
        yield client


async def drawn(client, wanted, prompts=None):
    outcomes = [one async for one in client.generate(prompts or prompts_of(3), wanted)]
    for one in outcomes:
        if isinstance(one, FailedRollout):
            raise one.error
    return by_name(outcomes)


@torch.inference_mode()
def log_probs(model, context, response, temperature=1.0):
    ids = torch.tensor([[*context, *response]], dtype=torch.int64)
    logits = model(input_ids=ids).logits[0, len(context) - 1 : -1]
    return (logits / temperature).double().log_softmax(-1)


async def test_columns_are_those_of_both_models_computed_afterwards():
    student, teacher = load_model("student"), load_model("teacher")
    prompts = tiny_prompts(3)
    async with pair() as client:
        wanted = options(temperature=1.2)
        mixed = await drawn(client, replace(wanted, policy=guided("mixture", coefficient=0.4)))
        skd = await drawn(client, replace(wanted, policy=guided("speculative", accept_topk=3)))
        alone = await drawn(client, replace(wanted, policy=guided("teacher")))
    for rollouts in (mixed, skd, alone):
        for (prompt, _), rollout in rollouts.items():
            ids = torch.tensor(rollout.sequence.response_ids.astype(np.int64))
            s_rt, t_rt = (log_probs(model, prompts[prompt], ids.tolist(), 1.2) for model in (student, teacher))
            s_r, t_r = (one.gather(1, ids[:, None])[:, 0] for one in (s_rt, t_rt))
            top_rk = t_rt.topk(3).indices
            listed_r = (top_rk == ids[:, None]).any(-1)
            refused_r = s_rt.scatter(1, top_rk, -torch.inf).logsumexp(-1)
            who = rollout.behaviour.provenance
            if rollouts is mixed:
                expected = torch.logaddexp(np.log(0.4) + t_r, np.log(0.6) + s_r)
            elif rollouts is alone:
                expected = t_r
                assert (who == Provenance.TEACHER).all()
            else:
                expected = torch.logaddexp(torch.where(listed_r, s_r, -torch.inf), refused_r + t_r)
                assert listed_r[torch.from_numpy(who == Provenance.ACCEPTED)].all()
            assert rollout.behaviour.logprob_behaviour == pytest.approx(expected.numpy(), abs=1e-4)
            assert rollout.behaviour.logprob_policy == pytest.approx(s_r.numpy(), abs=1e-4)
    assert {*np.concatenate([np.asarray(one.behaviour.provenance) for one in skd.values()])} == {
        Provenance.ACCEPTED,
        Provenance.REPLACED,
    }


async def test_only_accepted_tokens_enter_the_log_with_who_chose_them():
    queue = MemoryQueue()
    async with pair(queue, log_chunk_tokens=5) as client:
        rollouts = await drawn(client, options(write_logs=True, policy=guided("speculative", accept_topk=2)))
    for rollout in rollouts.values():
        view = await queue.read(log_of(rollout.id))
        ids = np.concatenate([wire.ids_from_proto(entry.segment.response) for entry in view.entries])
        who = b"".join(entry.behaviour.provenance_u8 for entry in view.entries)
        assert ids.tolist() == rollout.sequence.response_ids.tolist()
        assert who == np.asarray(rollout.behaviour.provenance).tobytes()
        assert view.finish_reason == rollout.finish_reason


SLOW = [pytest.param(op, marks=pytest.mark.slow) for op in ("mixture", "best_of_n", "takeover")]


@pytest.mark.parametrize("op", ["speculative", "trust_region", *SLOW])
async def test_the_same_seeds_draw_the_same_bits_whatever_the_chunks_and_the_neighbours(op):
    params = {"takeover": {"after_tokens": 2.0}}.get(op, {})
    wanted = options(deterministic=True, max_new_tokens=5, policy=guided(op, **params))
    async with pair(log_chunk_tokens=32) as client:
        first = await drawn(client, wanted)
    async with pair(log_chunk_tokens=3) as client:
        noise = asyncio.create_task(drawn(client, replace(wanted, run="noise", seed=8)))
        second = await drawn(client, wanted)
        await noise
    assert {name: bits(one) for name, one in first.items()} == {name: bits(one) for name, one in second.items()}


async def test_a_teacher_may_read_another_context():
    prompts = prompts_of(2, samples=1)
    told = [replace(one, teacher_context=as_ids(prompts[1 - index].context)) for index, one in enumerate(prompts)]
    teacher, ids = load_model("teacher"), tiny_prompts(2)
    async with pair() as client:
        rollouts = await drawn(client, options(policy=guided("teacher")), told)
    for (prompt, _), rollout in rollouts.items():
        response = rollout.sequence.response_ids.astype(np.int64)
        t_rt = log_probs(teacher, ids[1 - prompt], response.tolist())
        expected = t_rt.gather(1, torch.tensor(response)[:, None])[:, 0]
        assert rollout.behaviour.logprob_behaviour == pytest.approx(expected.numpy(), abs=1e-4)


TOLD = as_ids(prompt_ids("999+999"))
GAME = EnvironmentUse("sums", max_turns=3, max_observation_tokens=12)
PLAYED = {"environment": GAME, "stop": ("=",), "max_new_tokens": 30}


async def test_a_teacher_guides_every_turn_and_reads_what_the_environment_said(monkeypatch):
    """Also with a context of its own before the first reply; each token is logged with who chose it. All turns of a unit are
    asked of the weights that answered first."""
    asked_of: list[bool] = []
    score = TeacherDoors.score

    async def seen(self, request, *, deadline_s):
        asked_of.append(request.teacher.HasField("exact"))
        return await score(self, request, deadline_s=deadline_s)

    monkeypatch.setattr(TeacherDoors, "score", seen)
    models = load_model("student"), load_model("teacher")
    asked = [replace(one, teacher_context=TOLD, task={"answer": "1"}) for one in prompts_of(2)]
    async with pair(environments='{"sums": {"kind": "calculator"}}') as client:
        mixed = await drawn(client, options(**PLAYED, policy=guided("mixture", coefficient=0.4)), asked)
        alone = await drawn(client, options(**PLAYED, policy=guided("teacher")), asked)
    assert max(len(one.sequence.segments) for one in mixed.values()) >= 4, "somebody calls the tool"
    assert asked_of.count(False) == 2, "the first question of each request alone"
    for rollouts in (mixed, alone):
        for rollout in rollouts.values():
            first, *behind = rollout.sequence.segments
            ids = np.concatenate([one.ids for one in behind]).astype(np.int64)
            rows = np.flatnonzero(np.concatenate([np.full(len(one.ids), one.kind == "response") for one in behind]))
            s_r, t_r = (
                log_probs(model, context, ids)[rows, ids[rows]] for model, context in zip(models, (first.ids, TOLD), strict=True)
            )
            expected = torch.logaddexp(np.log(0.4) + t_r, np.log(0.6) + s_r) if rollouts is mixed else t_r
            assert rollout.behaviour.logprob_behaviour == pytest.approx(expected.numpy(), abs=1e-4)
            assert rollout.behaviour.logprob_policy == pytest.approx(s_r.numpy(), abs=1e-4)
            assert {*np.asarray(rollout.behaviour.provenance)} == {Provenance.MIXED if rollouts is mixed else Provenance.TEACHER}


async def refused(client, wanted) -> PreceptorError:
    with pytest.raises(PreceptorError) as caught:
        await drawn(client, wanted)
    return caught.value


async def test_what_cannot_be_guided_is_refused_by_name():
    async with serving() as (_, client):
        error = await refused(client, options(policy=guided("mixture")))
        assert isinstance(error, Unsupported)
        assert "--teacher" in error.hint
    async with pair() as client:
        error = await refused(client, options(temperature=0.0, policy=guided("mixture")))
        assert error.field == "sampling.temperature"
        unknown = await refused(client, options(policy=BehaviourSpec(policy=OpUse(op="teacher"), teacher="nobody")))
        assert unknown.code == "NOT_FOUND"
        assert len(await drawn(client, options(max_new_tokens=2))) == 6  # nothing is left behind
