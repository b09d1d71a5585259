"""The teacher service with `engine: vllm` in its file, asked through gRPC and through Redis, and after its engine was killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue.redis import RedisQueue
from preceptor.types import Scored, Sequence, TailOf, Want
from tests.integration.serving import processes
from tests.integration.serving.processes import ServiceProcess
from tests.integration.test_teacher_service import sequences, teacher, through_redis
from tests.support.models import BUNDLED_TEACHER

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


def exact_sampled(sequence: Sequence) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(BUNDLED_TEACHER, dtype=torch.float64, local_files_only=True)
    with torch.inference_mode():
        logits = model(torch.from_numpy(sequence.ids.astype("int64"))[None]).logits[0]
    return logits.log_softmax(-1).numpy()[sequence.targets - 1, sequence.response_ids]


async def persistent(client: AsyncTeacherClient, item: ScoreItem) -> Scored:
    """The rows, after as many tries as the engine needs to come back: until then every answer says that one may try again."""
    async with asyncio.timeout(DEADLINE_S):
        while not isinstance(outcome := (await client.score("tiny", [item], deadline_s=DEADLINE_S))[0], Scored):
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
