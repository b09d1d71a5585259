"""How many tokens a teacher computes for a group of rollouts that grow side by side, through its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring.house import NAME, teacher_house
from preceptor import wire
from preceptor.queue import Flow, LogName, LogWriter, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import RolloutId, Segment, Want
from preceptor_proto.v1 import common_pb2, teacher_pb2

GROUP, PROMPT_TOKENS, RESPONSE_TOKENS, CHUNK_TOKENS = 8, 512, 256, 32
FLOW = Flow(NAME, "local", "default")
DEADLINE_S = 300.0
WANT = Want(sampled=True, topk=64)


@dataclass(slots=True)
class Counts:
    """What the receipts add up to."""

    computed: int = 0
    reused: int = 0
    deliveries: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, envelope: teacher_pb2.Envelope) -> None:
        self.computed += envelope.receipt.tokens_computed
        self.reused += envelope.receipt.tokens_reused
        self.deliveries += 1
        self.rows[envelope.task_id] = self.rows.get(envelope.task_id, 0) + envelope.rows.count

    def detail(self) -> dict[str, int]:
        return {"reused": self.reused, "deliveries": self.deliveries, "chunk_tokens": CHUNK_TOKENS}


async def tokens_of_a_group(folder: Path, options: Mapping[str, Any], vocabulary: int) -> Counts:
    """All rollouts of one prompt grow by chunks at once; nothing was scored before."""
    rng = np.random.default_rng(5)
    prompt = rng.integers(0, vocabulary, PROMPT_TOKENS, dtype=np.uint32)
    responses = rng.integers(0, vocabulary, (GROUP, RESPONSE_TOKENS), dtype=np.uint32)
    async with teacher_house(folder, options) as (_, stack):
        queue = await RedisQueue.connect(stack.queue.url, password=stack.queue.password)
        try:
            stream, counts = ScoreStream(queue, FLOW), Counts()
            writers = [await _open(queue, stream, number, prompt) for number in range(GROUP)]
            for start in range(0, RESPONSE_TOKENS, CHUNK_TOKENS):
                for writer, ids in zip(writers, responses, strict=True):
                    await writer.append(wire.segment_to_proto(Segment("response", ids[start : start + CHUNK_TOKENS])))
                await _until(stream, counts, start + CHUNK_TOKENS)
            for writer in writers:
                await writer.close(common_pb2.FINISH_REASON_LENGTH)
        finally:
            await queue.close()
    return counts


async def _open(queue: RedisQueue, stream: ScoreStream, number: int, prompt: np.ndarray) -> LogWriter:
    rollout = RolloutId("run", 1, 0, number)
    task = teacher_pb2.ScoreTask(
        schema=1,
        task_id=f"task-{number}",
        rollout=wire.rollout_id_to_proto(rollout),
        teacher=wire.choice_to_proto(NAME),
        context=wire.ids_to_proto(prompt),
        want=wire.want_to_proto(WANT),
    )
    await stream.open(task)
    return LogWriter(queue, LogName.of(FLOW.tenant, FLOW.job, rollout))


async def _until(stream: ScoreStream, counts: Counts, rows: int) -> None:
    """All rollouts are scored so far, as a student that draws more slowly than its teacher scores would find it."""
    async with asyncio.timeout(DEADLINE_S):
        while len(counts.rows) < GROUP or min(counts.rows.values()) < rows:
            for delivery in (await stream.take(timeout_s=1.0)).deliveries:
                counts.add(delivery.envelope)
