"""`python -m benchmarks.bench_cache`: a run that is repeated pays nothing (P9).

The bundled teacher on the `hf` engine, deterministic. A run scores the same sequences through gRPC, or as tasks through a real
Valkey on logs that grow while they are scored; then the teacher stops, another one starts on the same folder, and the run is
repeated, through Redis with logs that grow by other chunks. Beside it stands what a first run pays for being remembered.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results import Result, write_results
from examples.tiny.task import load
from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor import types, wire
from preceptor.client import AsyncTeacherClient
from preceptor.config import TeacherSettings
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, LogName, LogWriter, ScoreStream
from preceptor.queue.redis import RedisQueue
from preceptor.types import CacheTier, RolloutId, Scored, ScoreItem, Segment, TailOf, Want
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.run import RunningService, running
from preceptor_teacher.service import TeacherService

TEACHER, MODEL = "tiny", Path("examples/tiny/teacher")
WANT = Want(sampled=True, topk=64, entropy=True, tail=TailOf.TOPK, deterministic=True)
PROBLEMS, LONG, LONG_TOKENS, IDS = 48, 16, 120, 200
SHARE_BAR = 0.95
REPEATS = 8
DEADLINE_S = 120.0
FLOW = Flow(TEACHER, "local", "default")


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one sequence, and whether they came from the cache."""

    rows: bytes
    count: int
    cached: bool
    computed_tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one run got for each sequence, and how long it took."""

    parts: Sequence[Sequence[Part]]
    took_s: float

    @property
    def cached_share(self) -> float:
        rows = [(part.count, part.cached) for one in self.parts for part in one]
        return sum(count for count, cached in rows if cached) / sum(count for count, _ in rows)

    @property
    def bits(self) -> list[bytes]:
        return [b"".join(part.rows for part in one) for one in self.parts]

    @property
    def computed_tokens(self) -> int:
        return sum(part.computed_tokens for one in self.parts for part in one)


def sequences() -> list[types.Sequence]:
    """Held-out problems with their right answers, and longer ones of random ids."""
    rng = np.random.default_rng(9)
    solved = [types.Sequence.of(prompt_ids(one.prompt), [*text_ids(one.worked), 2]) for one in load("heldout")[:PROBLEMS]]
    return solved + [types.Sequence.of(ids[:32], ids[32:]) for ids in rng.integers(3, IDS, (LONG, LONG_TOKENS))]


@asynccontextmanager
async def teacher(folder: Path | None, valkey: EmbeddedValkey | None = None) -> AsyncGenerator[RunningService]:
    """A teacher as its own process would run it, its engine in a child; without a folder it remembers nothing."""
    redis = {"redis_url": valkey.url, "redis_password": valkey.password} if valkey else {}
    cache = {"score_cache_folder": folder} if folder else {"score_cache_memory_bytes": 0}
    plain = {"model": f"{TEACHER}={MODEL}", "grpc_port": 0, "rest_port": 0, "log_level": "error"}
    async with running(TeacherService(), TeacherSettings.model_validate({**plain, **redis, **cache})) as house:
        yield house


# ---------------------------------------------------------------- doors


async def through_grpc(house: RunningService, asked: Sequence[types.Sequence]) -> Run:
    async with AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
        began = time.perf_counter()
        results = await client.score(TEACHER, [ScoreItem(one, WANT) for one in asked], deadline_s=DEADLINE_S)
        took_s = time.perf_counter() - began
    return Run([[_direct(result)] for result in results], took_s)


def _direct(result: object) -> Part:
    assert isinstance(result, Scored), result
    rows, topk = result.rows, result.rows.topk
    assert topk is not None
    columns = [rows.sampled, rows.entropy, rows.tail, topk.ids, topk.logprobs]
    bits = b"".join(column.tobytes() for column in columns if column is not None)
    return Part(bits, rows.count, result.receipt.cache is not CacheTier.NONE, result.receipt.tokens_computed)


async def through_redis(valkey: EmbeddedValkey, asked: Sequence[types.Sequence], run: str, seed: int) -> Run:
    """Logs that grow by chunks of the run's own, side by side, each with a task opened before its first token."""
    queue = await RedisQueue.connect(valkey.url, password=valkey.password)
    try:
        stream = ScoreStream(queue, FLOW)
        began = time.perf_counter()
        for number, sequence in enumerate(asked):
            await stream.open(_task(run, number, sequence))
        rng = np.random.default_rng(seed)
        await asyncio.gather(*(_grow(queue, run, number, sequence, rng) for number, sequence in enumerate(asked)))
        parts = await _taken(stream, len(asked))
        return Run([parts[f"{run}-{number}"] for number in range(len(asked))], time.perf_counter() - began)
    finally:
        await queue.close()


def _task(run: str, number: int, sequence: types.Sequence) -> teacher_pb2.ScoreTask:
    task = teacher_pb2.ScoreTask(schema=1, task_id=f"{run}-{number}", teacher=wire.choice_to_proto(TEACHER))
    task.rollout.CopyFrom(wire.rollout_id_to_proto(RolloutId(run, 1, number, 0)))
    task.context.CopyFrom(wire.ids_to_proto(sequence.segments[0].ids))
    task.want.CopyFrom(wire.want_to_proto(WANT))
    return task


async def _grow(queue: RedisQueue, run: str, number: int, sequence: types.Sequence, rng: np.random.Generator) -> None:
    writer = LogWriter(queue, LogName.of(FLOW.tenant, FLOW.job, RolloutId(run, 1, number, 0)))
    left = sequence.response_ids
    while len(left):
        cut = int(rng.integers(1, 48))
        await writer.append(wire.segment_to_proto(Segment("response", left[:cut])))
        await asyncio.sleep(float(rng.uniform(0, 0.05)))
        left = left[cut:]
    await writer.close(common_pb2.FINISH_REASON_EOS)


async def _taken(stream: ScoreStream, tasks: int) -> Mapping[str, Sequence[Part]]:
    parts: dict[str, list[Part]] = {}
    finished: set[str] = set()
    async with asyncio.timeout(DEADLINE_S):
        while len(finished) < tasks:
            taken = await stream.take(timeout_s=1.0)
            for one in taken.deliveries:
                parts.setdefault(one.task_id, []).append(_part(one.envelope))
                finished |= {one.task_id} if one.envelope.finished else set()
            await stream.acknowledge(taken)
    return parts


def _part(envelope: teacher_pb2.Envelope) -> Part:
    """Columns of several parts are compared row by row: sampled, entropy and tail, then the top-k planes."""
    rows, receipt = envelope.rows, envelope.receipt
    listed = wire.rows_from_proto(rows)
    bits = b""
    if listed.topk is not None and listed.sampled is not None and listed.entropy is not None and listed.tail is not None:
        columns = (listed.sampled, listed.entropy, listed.tail, listed.topk.ids, listed.topk.logprobs)
        bits = b"".join(column[r].tobytes() for r in range(rows.count) for column in columns)
    return Part(bits, rows.count, receipt.cache != common_pb2.CACHE_TIER_NONE, receipt.tokens_computed)


# ---------------------------------------------------------------- the measure


async def _twice_through_grpc(folder: Path, asked: Sequence[types.Sequence]) -> tuple[Run, Run]:
    async with teacher(folder) as house:
        first = await through_grpc(house, asked)
    async with teacher(folder) as house:
        return first, await through_grpc(house, asked)


async def _twice_through_redis(folder: Path, asked: Sequence[types.Sequence]) -> tuple[Run, Run]:
    with EmbeddedValkey(folder / "valkey") as valkey:
        async with teacher(folder / "scores", valkey):
            first = await through_redis(valkey, asked, "first", seed=1)
        async with teacher(folder / "scores", valkey):
            return first, await through_redis(valkey, asked, "second", seed=2)


async def _price(folder: Path, asked: Sequence[types.Sequence]) -> float:
    """What a first run takes over the same without a cache: the best of several turns each, other ids in each turn."""
    times: dict[bool, list[float]] = {True: [], False: []}
    async with teacher(folder) as remembers, teacher(None) as forgets:
        for turn in range(REPEATS):
            fresh = [types.Sequence.of([*one.segments[0].ids, 3 + turn], one.response_ids) for one in asked]
            for remembering in (turn % 2 == 0, turn % 2 == 1):
                run = await through_grpc(remembers if remembering else forgets, fresh)
                assert run.cached_share == 0
                times[remembering].append(run.took_s)
    return min(times[True]) / min(times[False])


async def measure() -> list[Result]:
    asked = sequences()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        doors = {
            "grpc": await _twice_through_grpc(folder / "grpc", asked),
            "redis": await _twice_through_redis(folder, asked),
        }
        price = await _price(folder / "price", asked)
    detail = {door: _detail(first, second) for door, (first, second) in doors.items()}
    share = min(one["cached_share"] if one["bit_equal"] else 0.0 for one in detail.values())
    what = "scores of a repeated run from the cache, the worse of gRPC and Redis; 0 where they are not bit-equal"
    detail |= {"first_run_over_no_cache": price, "engine": "hf", "sequences": len(asked)}
    return [Result("P9", what, share, SHARE_BAR, "higher", detail)]


def _detail(first: Run, second: Run) -> dict[str, float | bool]:
    return {
        "cached_share": second.cached_share,
        "bit_equal": second.bits == first.bits,
        "tokens_computed_first": first.computed_tokens,
        "tokens_computed_second": second.computed_tokens,
        "first_over_second_time": first.took_s / second.took_s,
    }


def run() -> list[Result]:
    """The figures, for whoever prints them beside others."""
    return asyncio.run(measure())


def main() -> None:
    rows = run()
    detail = rows[0].detail
    notes = [f"{door}: {detail[door]}" for door in ("grpc", "redis")]
    notes.append(f"where we lose: a first run takes {detail['first_run_over_no_cache']:.2f}x the time of one without a cache")
    write_results("cache", rows, notes)


if __name__ == "__main__":
    main()
