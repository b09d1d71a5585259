"""P1 through the queue: tasks opened, leased, scored, committed, read and decoded, against the engine called in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.desk import Desk, queue_of
from benchmarks.scoring.house import NAME, NO_SCORE_CACHE, running, teacher_plan
from preceptor.local.stack import build_stack
from preceptor.types import Rows, Scored, Sequence, Want
from preceptor_serving.engines.protocol import Engine, ScoreItem
from preceptor_serving.engines.registry import create_engine

SEQUENCES, TOKENS, PROMPT, TOPK = 32, 512, 64, 64
ITEMS = f"{SEQUENCES} x {TOKENS} tokens, k = {TOPK}, sampled, f16"
WANT = Want(sampled=True, topk=TOPK)
WITHIN_S = 900.0
SAME_NATS = 1e-3  # two batches of one engine may differ by rounding; another sequence differs by far more


@dataclass(slots=True)
class Turns:
    """Seconds of each call, one entry a turn."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        return [alone / through for alone, through in zip(self.seconds["in_process"], self.seconds["redis"], strict=True)]

    def detail(self) -> dict[str, Any]:
        medians = {name: median(values) for name, values in self.seconds.items()}
        return {
            "tokens_per_s": {name: round(SEQUENCES * TOKENS / medians[name]) for name in ("in_process", "redis")},
            "cpu_ratio": round(medians["in_process_cpu"] / medians["redis_cpu"], 3),
            "ratios": [round(ratio, 3) for ratio in sorted(self.ratios)],
            "median_s": {name: round(value, 4) for name, value in medians.items()},
        }


async def turns(folder: Path, engine: str, options: Mapping[str, Any], vocabulary: int, repeats: int) -> Turns:
    """Both sides on fresh sequences, in turns; the first turn warms them and is not kept."""
    alone = create_engine(engine, {"name": NAME, **options})
    stack = build_stack(folder, folder / "runs", [teacher_plan(folder, {"engine": engine, **options}, flags=NO_SCORE_CACHE)])
    found = Turns()
    async with running(stack), queue_of(stack) as queue:
        for turn in range(repeats + 1):
            measured = await _one_turn(alone, Desk(queue, f"turn-{turn}", WANT, keep=True), drawn(vocabulary, turn))
            for name, value in measured.items() if turn else ():
                found.seconds.setdefault(name, []).append(value)
    return found


async def _one_turn(alone: Engine, desk: Desk, sequences: list[Sequence]) -> dict[str, float]:
    began, began_cpu = time.perf_counter(), cpu_s()
    direct = alone.score([ScoreItem(one, WANT) for one in sequences])
    between, between_cpu = time.perf_counter(), cpu_s()
    await through_queue(desk, sequences)
    ended, ended_cpu = time.perf_counter(), cpu_s()
    for number, outcome in enumerate(direct):
        assert isinstance(outcome, Scored), outcome
        require_same(outcome.rows, desk.rows[str(number)])
    return {
        "in_process": between - began,
        "redis": ended - between,
        "in_process_cpu": between_cpu - began_cpu,
        "redis_cpu": ended_cpu - between_cpu,
    }


async def through_queue(desk: Desk, sequences: list[Sequence]) -> None:
    """Returns when every row is here and decoded."""
    named = {str(number): one for number, one in enumerate(sequences)}
    async with desk.collecting():
        await asyncio.gather(*(desk.open_whole(name, one) for name, one in named.items()))
        await desk.finished(named, WITHIN_S)


def drawn(vocabulary: int, seed: int) -> list[Sequence]:
    ids = np.random.default_rng(seed).integers(0, vocabulary, (SEQUENCES, TOKENS))
    return [Sequence.of(one[:PROMPT], one[PROMPT:]) for one in ids]


def require_same(direct: Rows, parts: list[Rows]) -> None:
    """Both sides did the same work."""
    assert direct.sampled is not None
    got = np.concatenate([part.sampled for part in parts if part.sampled is not None])
    if got.shape != direct.sampled.shape or np.abs(got - direct.sampled).max() > SAME_NATS:
        raise RuntimeError("the queue's rows are not the engine's")


def cpu_s() -> float:
    """Spent so far by this process, the queue, the door and the engine behind it."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))
