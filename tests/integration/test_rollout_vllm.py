"""The rollout service with `--engine vllm`: logs, weights swapped between runs, an engine killed while it draws."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from examples.tiny.decode import MODEL_DIRS
from preceptor.client.rollout import EnvironmentUse, FailedRollout
from preceptor.errors import ConfigurationError, Unsupported
from preceptor.queue import MemoryQueue
from preceptor.types import ModelRef, Rollout
from preceptor_serving.engine_host.placement import in_child_process
from preceptor_serving.weights import version_name, versions_folder, write_manifest
from tests.contract.generation_subjects import changed, logits_of
from tests.contract.generation_suite import N1, exact_policy
from tests.support.swapping import STEPS, assert_recomputed, publish, swapped_under_load
from tests.unit.preceptor_rollout.serving import RUN, assert_logged, by_name, options, prompts_of, serving

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
DEADLINE_S = 120.0
SMALL = {"kv_cache_memory_bytes": 64 << 20, "block_size": 32}


def published(root: Path) -> ModelRef:
    """A version of the run with other weights of the bundled student."""
    ref = ModelRef("tiny", RUN, 1, 4)
    folder = versions_folder(root, RUN) / version_name(ref)
    folder.parent.mkdir(parents=True)
    changed(MODEL_DIRS["student"], folder, lambda tensor: tensor.add_(torch.randn_like(tensor), alpha=0.02))
    return replace(ref, manifest_sha256=write_manifest(folder))


def vllm_service(queue: MemoryQueue, root: Path):
    own = {"engine_options": json.dumps(SMALL), "environments": '{"sums": {"kind": "calculator"}}'}
    return serving(queue, in_child_process, engine="vllm", weights_roots=str(root), **own)


def assert_scored_as_drawn(rollout: Rollout) -> None:
    """Every token of every turn has the log-probability of the whole model, the tool's answers in its context."""
    exact, told = exact_policy(logits_of(MODEL_DIRS["student"]), rollout), rollout.behaviour.logprob_policy
    assert told is not None
    np.testing.assert_allclose(told, exact[np.arange(len(exact)), rollout.sequence.response_ids], rtol=0, atol=N1)


def engine_process() -> psutil.Process:
    [engine] = [child for child in psutil.Process().children() if "engine_host.child" in " ".join(child.cmdline())]
    return engine


async def test_logs_versions_and_a_kill_in_the_middle(tmp_path: Path):
    queue, ref = MemoryQueue(), published(tmp_path)
    async with vllm_service(queue, tmp_path) as (_, client):

        async def drawn(attempt: int, **fields):
            prompts = [replace(prompt, attempt=attempt) for prompt in prompts_of(3)]
            wanted = options(write_logs=True, student_topk=3, **fields)
            return [one async for one in client.generate(prompts, wanted)]

        async def drawn_at_last(attempt: int, **fields):
            """After as many tries as the engine needs to come back: until then every answer says that one may try again."""
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    got = await drawn(attempt, **fields)
                    lost = [one.error for one in got if isinstance(one, FailedRollout)]
                    if not lost:
                        return by_name(got)
                    assert all(error.retryable for error in lost)
                    await asyncio.sleep(0.5)
                    attempt += 1

        base = by_name(await drawn(0))
        for rollout in base.values():
            await assert_logged(queue, rollout)
        with pytest.raises(Unsupported, match="hf engine"):
            await drawn(1, deterministic=True)

        prompts = [replace(prompt, task={"answer": "834"}) for prompt in prompts_of(2)]
        played = options(environment=EnvironmentUse("sums", 4, 16), max_new_tokens=40, stop=("=",))
        turns = by_name([one async for one in client.generate(prompts, played)])
        assert [one for one in turns.values() if isinstance(one, FailedRollout)] == []
        assert len(turns) == 4
        assert any(len(rollout.sequence.segments) > 2 for rollout in turns.values()), "the student calls its tool"
        for rollout in turns.values():
            assert_scored_as_drawn(rollout)

        await client.load_weights(ref)
        newer = by_name(await drawn(2))
        assert {one.model for one in newer.values()} == {ref}
        assert any(newer[name].sequence.ids.tolist() != one.sequence.ids.tolist() for name, one in base.items())
        other = by_name(await drawn(3, run="another"))  # draws from the base, which is read again
        assert {n: r.sequence.ids.tolist() for n, r in other.items()} == {n: r.sequence.ids.tolist() for n, r in base.items()}

        engine = engine_process()
        streaming = client.generate(prompts_of(3, 8), options(max_new_tokens=400, ignore_eos=True))
        engine.suspend()
        first = anext(streaming)
        engine.kill()
        failed = await first
        assert isinstance(failed, FailedRollout)
        assert failed.error.retryable
        again = await drawn_at_last(4, min_weight_step=4)
        assert {n: r.sequence.ids.tolist() for n, r in again.items()} == {n: r.sequence.ids.tolist() for n, r in newer.items()}


async def test_no_rollout_fails_under_swaps_and_every_token_is_its_versions_own(tmp_path: Path):
    refs = [publish(tmp_path, step) for step in STEPS]
    async with vllm_service(MemoryQueue(), tmp_path) as (_, client):
        load = await swapped_under_load(client, refs)
    assert {one.model.step for one in load.drawn} == set(STEPS)
    assert load.outlived > 0, "swaps met rollouts that were under way"
    assert_recomputed(tmp_path, load.drawn)


async def test_a_setting_that_vllm_would_not_heed_is_refused():
    with pytest.raises(ConfigurationError) as failed:
        async with serving(engine="vllm", device="cuda:1"):
            pass
    assert failed.value.field == "rollout.device"
    with pytest.raises(ConfigurationError) as twice:
        async with serving(engine="vllm", engine_options='{"folder": "/elsewhere"}'):
            pass
    assert twice.value.field == "rollout.engine_options"
