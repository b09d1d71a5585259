"""The teacher as an operator runs it: `preceptor serve teacher` on the bundled teacher, asked through all of its doors."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from examples.tiny.task import load
from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor import wire
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, LogName, LogWriter, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import RolloutId, Scored, Segment, Sequence, TailOf, Want
from preceptor_proto.v1 import common_pb2, teacher_pb2
from tests.integration.serving.processes import ServiceProcess
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
FLOW = Flow("tiny", "local", "default")
WANT = Want(sampled=True, topk=8, entropy=True, tail=TailOf.TOPK, deterministic=True)
EOS = common_pb2.FINISH_REASON_EOS


@asynccontextmanager
async def teacher(*flags: str, environ: dict[str, str] | None = None) -> AsyncGenerator[ServiceProcess]:
    command = ["serve", "teacher", "--grpc-port", "0", "--rest-port", "0", "--log-format", "json", *flags]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "preceptor", *command), stderr=asyncio.subprocess.PIPE, env=environ
    )
    service = ServiceProcess(process)
    service.reader = asyncio.create_task(service._read())
    try:
        await service.ready()
        yield service
    finally:
        if process.returncode is None:
            process.terminate()
        assert await service.exit_code() == 0, "".join(service.text)


def sequences(count: int) -> list[Sequence]:
    return [Sequence.of(prompt_ids(p.prompt), [*text_ids(p.worked), 2]) for p in load("heldout")[:count]]


async def through_redis(
    queue: RedisQueue, number: int, sequence: Sequence, rng: np.random.Generator, want: Want = WANT
) -> np.ndarray:
    """The sampled column of one rollout whose log grows by random chunks while it is scored."""
    rollout = RolloutId("run", 1, number, 0)
    writer, stream = LogWriter(queue, LogName.of(FLOW.tenant, FLOW.job, rollout)), ScoreStream(queue, FLOW)
    task = teacher_pb2.ScoreTask(
        schema=1,
        task_id=f"task-{number}",
        rollout=wire.rollout_id_to_proto(rollout),
        teacher=wire.choice_to_proto("tiny"),
        context=wire.ids_to_proto(sequence.segments[0].ids),
        want=wire.want_to_proto(want),
    )
    await stream.open(task)
    left, parts = sequence.response_ids, []
    while len(left):
        cut = int(rng.integers(1, 12))
        await writer.append(wire.segment_to_proto(Segment("response", left[:cut])))
        left = left[cut:]
        parts += (await stream.take()).deliveries
    await writer.close(EOS)
    async with asyncio.timeout(60):
        while not (parts and parts[-1].finished):
            parts += (await stream.take(timeout_s=0.5)).deliveries
    return np.concatenate([np.frombuffer(one.envelope.rows.sampled_f32le, "<f4") for one in parts])


async def through_rest(url: str, sequence: Sequence) -> list[float]:
    want = {"sampled": True, "topk": 8, "entropy": True, "tail": "topk", "deterministic": True}
    item = {"context": sequence.segments[0].ids.tolist(), "response": sequence.response_ids.tolist()}
    async with httpx.AsyncClient(timeout=60) as http:
        reply = await http.post(f"{url}/v1/score", json={"teacher": "tiny", "items": [item], "want": want})
    return reply.json()["results"][0]["rows"]["sampled"]


async def test_all_doors_give_the_same_bits_and_the_whole_models_numbers(tmp_path: Path):
    asked = sequences(6)
    model = AutoModelForCausalLM.from_pretrained(BUNDLED_TEACHER, dtype=torch.float64, local_files_only=True)
    with EmbeddedValkey(tmp_path / "valkey") as valkey:
        (tmp_path / "secret").write_text(valkey.password)
        redis = ("--redis-url", valkey.url, "--redis-password-file", str(tmp_path / "secret"))
        async with teacher("--model", f"tiny={BUNDLED_TEACHER}", *redis) as service:
            async with AsyncTeacherClient(f"127.0.0.1:{service.grpc_port}") as client:
                [info] = await client.describe("tiny")
                direct = await client.score("tiny", [ScoreItem(sequence, WANT) for sequence in asked], deadline_s=60)
            queue = await RedisQueue.connect(valkey.url, password=valkey.password)
            try:
                streamed = [
                    await through_redis(queue, number, sequence, np.random.default_rng(number))
                    for number, sequence in enumerate(asked)
                ]
            finally:
                await queue.close()
            friendly = [await through_rest(service.rest_url, sequence) for sequence in asked]
    assert info.capabilities.deterministic
    assert info.noise_floor_nats < 1e-5
    for sequence, scored, log_rows, json_rows in zip(asked, direct, streamed, friendly, strict=True):
        assert isinstance(scored, Scored)
        assert scored.rows.sampled.tobytes() == log_rows.tobytes()
        assert scored.rows.sampled.astype(float).tolist() == json_rows
        with torch.inference_mode():
            logits = model(torch.from_numpy(sequence.ids.astype("int64"))[None]).logits[0]
        exact = logits.log_softmax(-1).numpy()[sequence.targets - 1, sequence.response_ids]
        assert np.abs(scored.rows.sampled - exact).max() <= 1e-5


@pytest.mark.slow
async def test_a_file_names_several_teachers_and_their_aliases(tmp_path: Path):
    file = tmp_path / "teachers.yaml"
    tiny = {"folder": str(BUNDLED_TEACHER), "aliases": ["default"]}
    file.write_text(json.dumps({"teachers": {"tiny": tiny, "toy": {"engine": "fake", "tokenizer_size": 20}}}))
    async with teacher("--teachers-file", str(file)) as service:
        client = AsyncTeacherClient(f"127.0.0.1:{service.grpc_port}")
        try:
            infos = await client.describe()
            assert [(info.model.name, info.engine, info.aliases) for info in infos] == [
                ("tiny", "hf", ("default",)),
                ("toy", "fake", ()),
            ]
            [one] = await client.score("default", [ScoreItem(sequences(1)[0], Want(sampled=True))])
            assert isinstance(one, Scored)
        finally:
            await client.close()
