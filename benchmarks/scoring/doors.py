"""The same sequences through every door of one teacher, against the engine itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.scoring.deviations import Deviations, deviations, joined, sampled_of
from benchmarks.scoring.house import NAME, NO_SCORE_CACHE, teacher_house
from benchmarks.scoring.ways import TOPK, Scene, item
from preceptor import wire
from preceptor.client import AsyncTeacherClient
from preceptor.local.stack import Stack
from preceptor.queue import Flow, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import CacheTier, Scored, Sequence
from preceptor_proto.v1 import teacher_pb2

FLOW = Flow(NAME, "local", "default")
DEADLINE_S = 300.0
HF: Mapping[str, Any] = {"engine": "hf"}
F32 = NDArray[np.float32]


async def through_doors(folder: Path, scene: Scene, options: Mapping[str, Any] = HF) -> Mapping[str, Deviations]:
    """Deviations of each door, free and deterministic; without a cache, where the second door would find what the first left.

    `options`: those of the scene's engine.
    """
    found: dict[str, Deviations] = {}
    async with teacher_house(folder / "house", {**options, "folder": str(scene.folder)}, flags=NO_SCORE_CACHE) as (doors, stack):
        for deterministic in scene.modes:
            answers = {
                "grpc": await _grpc(doors.grpc, scene, deterministic),
                "rest": await _rest(doors.rest, scene, deterministic),
                "redis": await _redis(stack, scene, deterministic),
            }
            suffix = ".deterministic" if deterministic else ""
            for name, got in answers.items():
                pairs = zip(got, map(sampled_of, scene.expected(deterministic)), strict=True)
                found[f"doors.{name}{suffix}"] = deviations(f"through {name} against the engine alone{suffix}", pairs)
    return found


async def through_cache(folder: Path, scene: Scene) -> Mapping[str, Deviations]:
    """A second call in another order, out of the score cache and computed again, against the first."""
    found: dict[str, Deviations] = {}
    for name, flags in (("on", ()), ("off", NO_SCORE_CACHE)):
        async with teacher_house(folder / f"cache-{name}", {"folder": str(scene.folder)}, flags=flags) as (doors, _):
            first = await _scored(doors.grpc, scene.sequences, deterministic=False)
            again = (await _scored(doors.grpc, scene.sequences[::-1], deterministic=False))[::-1]
        hits = sum(one.receipt.cache is not CacheTier.NONE for one in again)
        if hits != (len(again) if name == "on" else 0):
            raise RuntimeError(f"{hits} of {len(again)} came from a cache that is {name}")
        pairs = [(sampled_of(two.rows), sampled_of(one.rows)) for one, two in zip(first, again, strict=True)]
        found[f"cache.{name}"] = deviations(f"a second call in another order, the score cache {name}, against the first", pairs)
    return found


async def _scored(address: str, sequences: Iterable[Sequence], *, deterministic: bool) -> list[Scored]:
    async with AsyncTeacherClient(address) as client:
        got = await client.score(NAME, [item(one, deterministic) for one in sequences], deadline_s=DEADLINE_S)
    return [one for one in got if isinstance(one, Scored)]


async def _grpc(address: str, scene: Scene, deterministic: bool) -> list[F32]:
    return [sampled_of(one.rows) for one in await _scored(address, scene.sequences, deterministic=deterministic)]


async def _rest(url: str, scene: Scene, deterministic: bool) -> list[F32]:
    want: dict[str, Any] = {"sampled": True, "topk": TOPK, "deterministic": deterministic}
    items = [{"context": one.segments[0].ids.tolist(), "response": one.response_ids.tolist()} for one in scene.sequences]
    async with httpx.AsyncClient(timeout=DEADLINE_S, trust_env=False) as http:
        reply = await http.post(f"{url}/v1/score", json={"teacher": NAME, "items": items, "want": want})
    reply.raise_for_status()
    return [np.array(one["rows"]["sampled"], np.float32) for one in reply.json()["results"]]


async def _redis(stack: Stack, scene: Scene, deterministic: bool) -> list[F32]:
    queue = await RedisQueue.connect(stack.queue.url, password=stack.queue.password)
    try:
        stream = ScoreStream(queue, FLOW)
        names = [f"task-{number}-{deterministic}" for number in range(len(scene.sequences))]
        for name, sequence in zip(names, scene.sequences, strict=True):
            await stream.open(_task(name, sequence, deterministic))
        parts = await _all_parts(stream, names)
    finally:
        await queue.close()
    return [joined([wire.rows_from_proto(part) for part in parts[name]]) for name in names]


def _task(name: str, sequence: Sequence, deterministic: bool) -> teacher_pb2.ScoreTask:
    return teacher_pb2.ScoreTask(
        schema=1,
        task_id=name,
        inline=wire.sequence_to_proto(sequence),
        teacher=wire.choice_to_proto(NAME),
        want=wire.want_to_proto(item(sequence, deterministic).want),
    )


async def _all_parts(stream: ScoreStream, names: list[str]) -> dict[str, list[Any]]:
    parts: dict[str, list[Any]] = {name: [] for name in names}
    unfinished = set(names)
    async with asyncio.timeout(DEADLINE_S):
        while unfinished:
            for delivery in (await stream.take(timeout_s=1.0)).deliveries:
                parts[delivery.envelope.task_id].append(delivery.envelope.rows)
                if delivery.finished:
                    unfinished.discard(delivery.envelope.task_id)
    return parts
