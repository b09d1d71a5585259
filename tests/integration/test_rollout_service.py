"""The rollout service as an operator runs it: a process over the bundled student, its engine a child, Valkey beside it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np
import psutil
import pytest

from examples.tiny.decode import MODEL_DIRS, load_model
from preceptor import wire
from preceptor.client import AsyncRolloutClient
from preceptor.client.rollout import FailedRollout
from preceptor.errors import EngineFailed
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import LogName
from preceptor.queue.redis import RedisQueue
from tests.integration.serving.processes import ServiceProcess, module_process
from tests.reference import opd_loop
from tests.unit.preceptor_rollout.drawing import bits, tiny_prompts
from tests.unit.preceptor_rollout.serving import JOB, by_name, options, prompts_of, publish

LONG = {"max_new_tokens": 400, "ignore_eos": True}
pytestmark = pytest.mark.timeout(180)


@asynccontextmanager
async def rollout_process(**environ: str) -> AsyncGenerator[tuple[ServiceProcess, AsyncRolloutClient]]:
    """Ready to generate."""
    arguments = ("--model", f"tiny={MODEL_DIRS['student']}", "--grpc-port", "0", "--rest-port", "0", "--log-format", "json")
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(module_process("preceptor", "serve", "rollout", *arguments, **environ))
        await service.ready()
        yield service, await stack.enter_async_context(AsyncRolloutClient(f"127.0.0.1:{service.grpc_port}"))


async def collect(client, prompts, wanted) -> dict:
    return by_name([one async for one in client.generate(prompts, wanted)])


@pytest.mark.slow
async def test_a_killed_engine_loses_nothing_that_cannot_be_drawn_again(tmp_path):
    ref = publish(tmp_path, step=4)
    exact = options(deterministic=True, max_new_tokens=40)
    async with rollout_process(PRECEPTOR_ROLLOUT_WEIGHTS_ROOTS=str(tmp_path)) as (service, client):
        before = await collect(client, prompts_of(4, 3), replace(exact, run="base"))
        reference = opd_loop.generate(
            load_model("student"), tiny_prompts(4), 3, opd_loop.Settings(seed=7, samples_per_prompt=3, max_response_tokens=40)
        )
        for row, prompt in enumerate(reference.prompts_B.tolist()):
            want = reference.response_BR[row][reference.valid_BR[row]].tolist()
            assert before[prompt, row % 3].sequence.response_ids.tolist() == want

        await client.load_weights(ref)
        loaded = await collect(client, prompts_of(4, 3), exact)
        (engine,) = service.children()
        first = asyncio.create_task(anext(client.generate(prompts_of(4, 3), options(**LONG))))
        await service.in_flight(1)
        engine.kill()
        failed = await first
        assert isinstance(failed, FailedRollout)
        assert isinstance(failed.error, EngineFailed)
        assert failed.error.retryable
        await service.seen("engine_up", restarts=1)

        again = [replace(prompt, attempt=1) for prompt in prompts_of(4, 3)]
        noise = asyncio.create_task(collect(client, prompts_of(3), options(run="noise")))  # somebody else's batches between ours
        after = await collect(client, again, replace(exact, min_weight_step=4))
        assert {one.id.attempt for one in after.values()} == {1}
        assert {name: bits(one) for name, one in after.items()} == {name: bits(one) for name, one in loaded.items()}
        assert len(await noise) == 6

        children = service.children()
        service.send(signal.SIGTERM)
        assert await service.exit_code() == 0
        psutil.wait_procs(children, timeout=20)
        assert not any(child.is_running() for child in children)


async def test_logs_in_valkey_are_what_the_stream_returned_and_end_with_their_caller(tmp_path):
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        password = tmp_path / "password"
        password.write_text(valkey.password)
        redis = {"PRECEPTOR_REDIS_URL": valkey.url, "PRECEPTOR_REDIS_PASSWORD_FILE": str(password)}
        async with rollout_process(**redis, PRECEPTOR_ROLLOUT_LOG_CHUNK_TOKENS="4") as (service, client):
            queue = await RedisQueue.connect(valkey.url, password=valkey.password)
            rollouts = await collect(client, prompts_of(3), options(write_logs=True, student_topk=4))
            for rollout in rollouts.values():
                view = await queue.read(LogName.of("local", JOB, rollout.id))
                ids = np.concatenate([wire.ids_from_proto(entry.segment.response) for entry in view.entries])
                lists = np.concatenate([wire.ragged_from_proto(entry.candidates).ids for entry in view.entries])
                assert ids.tolist() == rollout.sequence.response_ids.tolist()
                assert lists.tolist() == rollout.student_topk.ids.tolist()
                assert view.finish_reason == rollout.finish_reason

            stream = client.generate(prompts_of(1, 1), options(write_logs=True, run="left", **LONG))
            waiting = asyncio.create_task(anext(stream))
            log = LogName.of("local", JOB, replace(rollouts[0, 0].id, run="left"))
            await queue.follow(log, 7, 60)
            waiting.cancel()
            await asyncio.wait([waiting])
            await service.seen("request", method="Rollout.Generate", code="CANCELLED")
            assert len(await collect(client, prompts_of(1, 1), options(max_new_tokens=2))) == 1
            view = await queue.read(log)
            assert not view.closed
            assert view.length < LONG["max_new_tokens"]
            await queue.close()
