"""What `bench_vllm` can be asked for, a part at a time: each part is a few results, and starts what it needs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import bench_streaming as streaming
from benchmarks.growing_rollouts import GROUP, PROMPT_TOKENS, RESPONSE_TOKENS, tokens_of_a_group
from benchmarks.noise import MAX_NATS, result_of
from benchmarks.on_vllm.against_stock import Contest, p2a, p2b
from benchmarks.on_vllm.items import (
    BIG,
    CACHE,
    DEADLINE_S,
    ENGINE,
    SMALL,
    TOKENS,
    TOPK,
    checked,
    drawn,
    topk_items,
)
from benchmarks.results import Result
from benchmarks.scoring.doors import through_doors
from benchmarks.scoring.house import NAME, teacher_house
from benchmarks.scoring.models import save_random_qwen3
from benchmarks.scoring.ways import Scene, chunkings, orders, random_groups, sharing
from benchmarks.streaming import transport
from benchmarks.streaming.runs import Plan, random_contexts
from benchmarks.streaming.smollm2 import smollm2
from benchmarks.streaming.stage import stage
from preceptor.client import AsyncTeacherClient
from preceptor_serving.engines.registry import create_engine

Part = Callable[[argparse.Namespace, Path], Coroutine[Any, Any, list[Result]]]
SMALL_CACHE_BYTES, SMOLLM2_CACHE_BYTES = CACHE["kv_cache_memory_bytes"], 1 << 30
SMOLLM2 = "SmolLM2-135M, f32"
STUDENT_CACHE_BYTES = 512 << 20
WAYS = {"orders": orders, "sharing": sharing, "chunkings": chunkings}


async def against_stock_small(options: argparse.Namespace, root: Path) -> list[Result]:
    folder = save_random_qwen3(root / "small", SMALL)
    return await p2a(Contest(folder, str(SMALL), SMALL_CACHE_BYTES, options.sequences, options.repeats, options.threads), root)


async def against_stock_smollm2(options: argparse.Namespace, root: Path) -> list[Result]:
    return await p2b(Contest(smollm2(), SMOLLM2, SMOLLM2_CACHE_BYTES, options.sequences, 1, options.threads, ("topk",)), root)


async def through_grpc(options: argparse.Namespace, root: Path) -> list[Result]:
    """The two sides in turns on fresh sequences, each engine on one thread; the first turn warms them and is not kept."""
    folder = save_random_qwen3(root / "big", BIG)
    engine = create_engine("vllm", {"name": NAME, "folder": str(folder), **ENGINE})
    seconds: dict[str, list[float]] = {}
    async with (
        teacher_house(root / "door", {"engine": "vllm", "folder": str(folder), **ENGINE}) as (doors, _),
        AsyncTeacherClient(doors.grpc) as client,
    ):
        for turn in range(options.repeats + 1):
            items = topk_items(drawn(1000 + turn, options.sequences))
            began, began_cpu = time.perf_counter(), transport.cpu_s()
            checked(engine.score(items))
            between, between_cpu = time.perf_counter(), transport.cpu_s()
            checked(await client.score(NAME, items, deadline_s=DEADLINE_S))
            measured = {"in_process": between - began, "grpc": time.perf_counter() - between}
            measured |= {"in_process_cpu": between_cpu - began_cpu, "grpc_cpu": transport.cpu_s() - between_cpu}
            for name, value in measured.items() if turn else ():
                seconds.setdefault(name, []).append(value)
    engine.close()
    ratios = [alone / behind for alone, behind in zip(seconds["in_process"], seconds["grpc"], strict=True)]
    tokens = options.sequences * TOKENS
    detail = {
        "model": str(BIG),
        "engine": "vllm",
        "items": f"{options.sequences} x {TOKENS} tokens, k = {TOPK}, sampled, f16",
        "tokens_per_s": {name: round(tokens / median(seconds[name])) for name in ("in_process", "grpc")},
        "cpu_ratio": round(median(seconds["in_process_cpu"]) / median(seconds["grpc_cpu"]), 3),
        "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
    }
    return [Result("P1.grpc.vllm", f"gRPC tokens/s over in-process, {BIG}", median(ratios), 0.95, "higher", detail)]


async def through_redis(_: argparse.Namespace, root: Path) -> list[Result]:
    """SmolLM2, as for the hf engine; one turn, because it takes minutes."""
    options = {"folder": str(smollm2()), "dtype": "f32", "block_size": 32, "kv_cache_memory_bytes": SMOLLM2_CACHE_BYTES}
    turns = await transport.turns(root / "transport", "vllm", options, SMALL.vocabulary, 1)
    detail = {"model": SMOLLM2, "engine": "vllm", "items": transport.ITEMS, **turns.detail()}
    return [
        Result("P1.redis.vllm", f"Redis door tokens/s over in-process, {SMOLLM2}", median(turns.ratios), 0.90, "higher", detail)
    ]


async def streamed(options: argparse.Namespace, root: Path) -> list[Result]:
    """Teacher and student on vLLM, SmolLM2, a core each."""
    model = streaming.Model(SMOLLM2, smollm2(), ".vllm", SMALL.vocabulary)
    teacher = {"engine": "vllm", "folder": str(model.folder), "dtype": "f32", "block_size": 32}
    teacher["kv_cache_memory_bytes"] = SMOLLM2_CACHE_BYTES
    engine_options = json.dumps({"kv_cache_memory_bytes": STUDENT_CACHE_BYTES, "block_size": 32})
    student = ("--engine", "vllm", "--dtype", "f32", "--engine-options", engine_options)
    room = streaming.SLOTS * (streaming.PROMPT + streaming.RESPONSE)
    async with stage(root / "stage", teacher, model.folder, room, streaming.CHUNK, student) as scene:
        contexts = random_contexts(options.rollouts, streaming.PROMPT, model.vocabulary, seed=4)
        plan = Plan(contexts, 1, streaming.SLOTS, streaming.RESPONSE, seed=0)
        return streaming.p4_results(model, "vllm, students too", plan, await streaming.rounds(scene, plan, 1))


async def shared_prefixes(_: argparse.Namespace, root: Path) -> list[Result]:
    folder = save_random_qwen3(root / "growing", SMALL)
    counts = await tokens_of_a_group(root / "queue", {"engine": "vllm", "folder": str(folder), **ENGINE}, SMALL.vocabulary)
    unique = PROMPT_TOKENS + GROUP * RESPONSE_TOKENS
    what = f"tokens computed over unique ones, {GROUP} rollouts of one {PROMPT_TOKENS}-token prompt, growing"
    detail = {"model": str(SMALL), "engine": "vllm", "computed": counts.computed, "unique": unique, **counts.detail()}
    return [Result("P5.vllm", what, counts.computed / unique, 1.05, "lower", detail)]


async def noise(options: argparse.Namespace, root: Path) -> list[Result]:
    """Takeovers need a second engine in one process, which vLLM does not do; deterministic mode is not vLLM's."""
    folder = save_random_qwen3(root / "noise", replace(BIG, vocabulary=4096))
    engine = create_engine("vllm", {"name": NAME, "folder": str(folder), **ENGINE})
    scene = Scene.of_sequences(folder, engine, random_groups(4096, 16), options.rounds)  # pyright: ignore[reportArgumentType]
    found = {way: measure(scene) for way, measure in WAYS.items()} | {"float64": scene.against_float64()}
    found |= await through_doors(root, scene, {"engine": "vllm", **ENGINE})
    engine.close()
    return [result_of(f"N1.{name}.vllm", one, MAX_NATS) for name, one in found.items()]


PARTS: Mapping[str, Part] = {
    "p5": shared_prefixes,
    "p2a": against_stock_small,
    "p1.grpc": through_grpc,
    "p1.redis": through_redis,
    "n1": noise,
    "p2b": against_stock_smollm2,
    "p4": streamed,
}
"""In the order in which they are run: the longest last."""
