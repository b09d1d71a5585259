"""The teacher service with `engine: vllm` in its file, asked through gRPC and through Redis, and after its engine was killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from preceptor import wire
from preceptor.client import AsyncTeacherClient, ScoreItem, ScoreOptions
from preceptor.client.channel import Target
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue.redis import RedisQueue
from preceptor.types import ModelRef, Scored, Sequence, TailOf, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.weights import version_name, versions_folder, write_manifest
from tests.integration.serving import processes
from tests.integration.serving.processes import ServiceProcess
from tests.integration.test_teacher_service import sequences, teacher, through_redis
from tests.support.models import BUNDLED_TEACHER
from tests.support.weights import other_weights

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
WANT = Want(sampled=True, topk=8, entropy=True, tail=TailOf.TOPK)
DEADLINE_S = 240.0
ERROR_NATS = 1e-4


@asynccontextmanager
async def vllm_teacher(folder: Path, *flags: str) -> AsyncGenerator[ServiceProcess]:
    file = folder / "teachers.yaml"
    options = {"engine": "vllm", "dtype": "f32", "block_size": 32, "kv_cache_memory_bytes": 64 << 20}
    file.write_text(json.dumps({"teachers": {"tiny": {"folder": str(BUNDLED_TEACHER), **options}}}))
    async with teacher("--teachers-file", str(file), *flags) as service:
        yield service


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_TIMEOUT_S", DEADLINE_S)


def exact_sampled(sequence: Sequence, folder: Path = BUNDLED_TEACHER) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)
    with torch.inference_mode():
        logits = model(torch.from_numpy(sequence.ids.astype("int64"))[None]).logits[0]
    return logits.log_softmax(-1).numpy()[sequence.targets - 1, sequence.response_ids]


def published(root: Path, run: str, step: int) -> tuple[ModelRef, Path]:
    """Other whole weights of the bundled teacher, as a run publishes them."""
    ref = ModelRef("tiny", run, 1, step)
    folder = versions_folder(root, run) / version_name(ref)
    folder.parent.mkdir(parents=True, exist_ok=True)
    other_weights(BUNDLED_TEACHER, folder, step)
    return replace(ref, manifest_sha256=write_manifest(folder)), folder


async def persistent(client: AsyncTeacherClient, item: ScoreItem, version: ModelRef | None = None) -> Scored:
    """The rows, after as many tries as the engine needs to come back: until then every answer says that one may try again."""
    wanted = ScoreOptions(version=version)
    async with asyncio.timeout(DEADLINE_S):
        while not isinstance(outcome := (await client.score("tiny", [item], wanted, deadline_s=DEADLINE_S))[0], Scored):
            assert outcome.retryable
            await asyncio.sleep(0.5)
    return outcome


async def test_grpc_and_growing_tasks_give_the_whole_models_numbers_and_an_engine_killed_in_mid_batch_comes_back(tmp_path: Path):
    *asked, later, second = sequences(6)
    expected = [exact_sampled(sequence) for sequence in asked]
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        (tmp_path / "secret").write_text(valkey.password)
        redis = ("--redis-url", valkey.url, "--redis-password-file", str(tmp_path / "secret"))
        async with vllm_teacher(tmp_path, *redis) as service, AsyncTeacherClient(f"127.0.0.1:{service.grpc_port}") as client:
            [info] = await client.describe("tiny")
            direct = await client.score("tiny", [ScoreItem(sequence, WANT) for sequence in asked], deadline_s=60)
            queue = await RedisQueue.connect(valkey.url, password=valkey.password)
            try:
                streamed = [
                    await through_redis(queue, number, sequence, np.random.default_rng(number), WANT)
                    for number, sequence in enumerate(asked)
                ]
            finally:
                await queue.close()
            [engine] = [child for child in service.children() if "engine_host.child" in " ".join(child.cmdline())]
            engine.suspend()  # in the middle of the batch that comes now
            batch = [ScoreItem(later, WANT), ScoreItem(second, WANT)]
            broken = asyncio.create_task(client.score("tiny", batch, deadline_s=DEADLINE_S))
            await service.in_flight(1)
            engine.kill()
            for outcome in await broken:
                assert isinstance(outcome, Scored) or outcome.retryable
            after = [await persistent(client, item) for item in batch]
            assert not psutil.pid_exists(engine.pid)
    assert (info.engine, info.capabilities.streaming, info.capabilities.deterministic) == ("vllm", True, False)
    for exact, scored, log_rows in zip(expected, direct, streamed, strict=True):
        assert isinstance(scored, Scored)
        assert scored.rows.sampled is not None
        np.testing.assert_allclose(scored.rows.sampled, exact, rtol=0, atol=ERROR_NATS)
        np.testing.assert_allclose(log_rows, exact, rtol=0, atol=ERROR_NATS)
    for sequence, scored in zip((later, second), after, strict=True):
        assert scored.rows.sampled is not None
        np.testing.assert_allclose(scored.rows.sampled, exact_sampled(sequence), rtol=0, atol=ERROR_NATS)


async def test_whole_weights_of_a_run_are_loaded_over_grpc_score_as_they_are_and_outlive_the_engine(tmp_path: Path):
    """Beside the operator's, which `latest` goes on meaning; dropped and lost ones are read again when they are named."""
    [sequence] = sequences(1)
    (first, one), (second, other) = (published(tmp_path / "runs", "copies", step) for step in (1, 2))
    folders: dict[ModelRef | None, Path] = {first: one, second: other, None: BUNDLED_TEACHER}
    expected = {ref: exact_sampled(sequence, folder) for ref, folder in folders.items()}
    assert np.abs(expected[first] - expected[None]).max() > 100 * ERROR_NATS
    item = ScoreItem(sequence, WANT)
    roots = ("--weights-roots", str(tmp_path / "runs"), "--score-cache-memory-bytes", "0")  # every answer is the engine's
    async with vllm_teacher(tmp_path, *roots) as service:
        address = f"127.0.0.1:{service.grpc_port}"
        async with AsyncTeacherClient(address) as client, TeacherDoors(Target(address)) as doors:
            load = teacher_pb2.LoadVersionRequest(teacher="tiny", model=wire.model_ref_to_proto(first))
            drop = teacher_pb2.DropVersionRequest(teacher="tiny", model=load.model)
            reply = await doors.load_version(load, deadline_s=60)
            assert wire.model_info_from_proto(reply.info).model == first
            assert [info.model.run for info in await client.describe("tiny")] == ["", "copies"]
            for version in (first, None, second, first, None):  # the second by its name alone
                scored = await persistent(client, item, version)
                assert scored.rows.sampled is not None
                np.testing.assert_allclose(scored.rows.sampled, expected[version], rtol=0, atol=ERROR_NATS)
                assert scored.receipt.model.step == (version.step if version else 0)
            await doors.drop_version(drop, deadline_s=60)
            [engine] = [child for child in service.children() if "engine_host.child" in " ".join(child.cmdline())]
            engine.kill()
            for version in (second, first, None):
                scored = await persistent(client, item, version)
                assert scored.rows.sampled is not None
                np.testing.assert_allclose(scored.rows.sampled, expected[version], rtol=0, atol=ERROR_NATS)
