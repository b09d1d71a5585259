"""`python -m benchmarks.bench_scoring`: what a teacher's doors cost (P1), and what a readout costs in time and memory (P7).

P1 compares tokens a second through gRPC, client included, with the very same engine called in this process: the same folder,
options, thread count and items, the two sides taking turns. The readout's opponent is what a few lines of torch do: all logits,
`log_softmax`, gather, top-k, in the best of its known forms. Everything runs on one thread for each engine.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Sequence as Items
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.results import Result, write_results
from benchmarks.scoring.house import NAME, teacher_house
from benchmarks.scoring.memory import peak_in_fresh_process
from benchmarks.scoring.models import Shape, save_random_qwen3
from benchmarks.scoring.readouts import TOPK, WAYS, interleaved_s, make_case
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.types import Grade, Scored, Sequence, Want
from preceptor_serving.engine_host.kept_memory import KEPT_MEMORY
from preceptor_teacher.engines.hf import create
from preceptor_teacher.engines.hf.engine import HfEngine

BUNDLED = Path(__file__).parents[1] / "examples" / "tiny" / "teacher"
BIG = Shape(hidden=256, layers=4, vocabulary=49_152)
SEQUENCES, TOKENS, PROMPT = 32, 512, 64
HEAD_ROWS, HIDDEN = 151_936, 1024
GATHER_ROWS = 16_384
DEADLINE_S = 600.0


# ---------------------------------------------------------------- P1: the door


def items_of(tokens_below: int, grade: Grade, seed: int) -> list[ScoreItem]:
    """Fresh random sequences, so that nothing can come from a cache."""
    rng = np.random.default_rng(seed)
    want = Want(sampled=True, topk=TOPK, grade=grade)
    drawn = rng.integers(0, tokens_below, (SEQUENCES, TOKENS))
    return [ScoreItem(Sequence.of(ids[:PROMPT], ids[PROMPT:]), want) for ids in drawn]


def all_scored(outcomes: Items[object]) -> list[Scored]:
    scored = [one for one in outcomes if isinstance(one, Scored)]
    if len(scored) != SEQUENCES:
        raise RuntimeError(f"{SEQUENCES - len(scored)} of {SEQUENCES} items were not scored: {outcomes}")
    return scored


def cpu_s() -> float:
    """Spent so far by this process, the doors and the engine behind them."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


async def turns(engine: HfEngine, client: AsyncTeacherClient, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, one entry a turn; the first turn warms both sides and is not kept."""
    seconds: dict[str, list[float]] = {}
    tokens = engine.describe()[0].tokenizer_size
    for turn in range(repeats + 1):
        items = items_of(tokens, Grade.F16, turn)
        began, began_cpu = time.perf_counter(), cpu_s()
        all_scored(engine.score(items))
        between, between_cpu = time.perf_counter(), cpu_s()
        scored = all_scored(await client.score(NAME, items, deadline_s=DEADLINE_S))
        measured = {
            "in_process": between - began,
            "grpc": time.perf_counter() - between,
            "in_process_cpu": between_cpu - began_cpu,
            "grpc_cpu": cpu_s() - between_cpu,
            **split_of(scored),
        }
        for name, value in measured.items() if turn else ():
            seconds.setdefault(name, []).append(value)
    return seconds


def split_of(scored: Items[Scored]) -> dict[str, float]:
    """Where the engine's time went, by the receipts; items of one pass carry the same times."""
    times = [one.receipt.time for one in scored]
    return {
        "prefill": sum({one.prefill_s for one in times}),
        "readout": sum({one.readout_s for one in times}),
        "serialise": sum(one.serialise_s for one in times),
        "queued": max(one.queued_s for one in times),
    }


async def grpc_result(result_id: str, what: str, model: Path, root: Path, repeats: int, **options: Any) -> Result:
    """`options`: of both engines."""
    engine = create({"name": NAME, "folder": model, **options})
    entry = {"folder": str(model), **options}
    async with teacher_house(root / result_id, entry) as (doors, _), AsyncTeacherClient(doors.grpc) as client:
        seconds = await turns(engine, client, repeats)
    ratios = [ours / through for ours, through in zip(seconds["in_process"], seconds["grpc"], strict=True)]
    tokens = SEQUENCES * TOKENS
    detail = {
        "model": what,
        "items": f"{SEQUENCES} x {TOKENS} tokens, k = {TOPK}, sampled, f16",
        "tokens_per_s": {name: round(tokens / median(seconds[name])) for name in ("in_process", "grpc")},
        "cpu_ratio": round(median(seconds["in_process_cpu"]) / median(seconds["grpc_cpu"]), 3),
        "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
        "median_s": {name: round(median(values), 4) for name, values in seconds.items()},
    }
    return Result(result_id, f"gRPC tokens/s over in-process, {what}", median(ratios), 0.95, "higher", detail)


async def grpc_results(repeats: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        big = save_random_qwen3(root / "big", BIG)
        return [
            await grpc_result("P1.grpc", str(BIG), big, root, repeats),
            await grpc_result("P1.grpc.tiny", "bundled teacher, vocabulary 261", BUNDLED, root, 2 * repeats + 1),
        ]


# ---------------------------------------------------------------- P7 and the readout's time


def memory_results(rows: int) -> list[Result]:
    """The head's dtype decides how large the inputs are; the bar is for each."""
    found: list[Result] = []
    for suffix, dtype in (("", "float32"), (".bf16", "bfloat16")):
        detail = peak_in_fresh_process("ours", "topk", rows, HEAD_ROWS, HIDDEN, dtype)
        detail |= {"rows": rows, "vocabulary": HEAD_ROWS, "hidden": HIDDEN, "dtype": dtype}
        what = f"peak memory of the readout over its inputs, {rows} rows x {HEAD_ROWS}, h {HIDDEN}, {dtype}"
        found.append(Result(f"P7.readout{suffix}", what, detail["over_inputs"], 1.25, "lower", detail))
    return found


def time_result(rows: int, signal: str, repeats: int) -> Result:
    """CPU seconds of one thread; the plain way in the better of its two forms."""
    case = make_case(rows, HEAD_ROWS, HIDDEN, torch.float32, signal)
    seconds = interleaved_s({name: partial(way, case) for name, way in WAYS.items()}, repeats)
    best = min(seconds["plain"], seconds["plain_in_place"])
    peaks = {name: peak_in_fresh_process(name, signal, rows, HEAD_ROWS, HIDDEN, "float32") for name in ("ours", "plain_in_place")}
    detail = {
        "cpu_s": {name: round(value, 3) for name, value in seconds.items()},
        "over_own_gemm": round(seconds["ours"] / seconds["gemm"], 3),
        "peak_over_inputs": {name: round(peak["over_inputs"], 3) for name, peak in peaks.items()},
    }
    what = f"CPU time of the readout over plain torch on full logits, {signal} {TOPK}, {rows} rows x {HEAD_ROWS}"
    return Result(f"readout.{signal}.{rows}", what, seconds["ours"] / best, 1.0, "lower", detail)


def topk_over_gather(repeats: int) -> Result:
    """What choosing the ids costs beyond answering the caller's own: both read all logits and normalise them."""
    shape = (GATHER_ROWS, BIG.vocabulary, BIG.hidden, torch.float32)
    cases = {signal: make_case(*shape, signal) for signal in ("topk_alone", "candidates")}
    ways = {signal: partial(WAYS["ours"], case) for signal, case in cases.items()}
    seconds = interleaved_s({**ways, "gemm": partial(WAYS["gemm"], cases["candidates"])}, repeats)
    detail = {"cpu_s": {name: round(value, 3) for name, value in seconds.items()}}
    detail["over_own_gemm"] = {name: round(seconds[name] / seconds["gemm"], 3) for name in ways}
    what = f"CPU time of topk {TOPK} over that of {TOPK} candidates, {GATHER_ROWS} rows x {BIG.vocabulary}, h {BIG.hidden}"
    return Result("readout.topk_over_gather", what, seconds["topk_alone"] / seconds["candidates"], 1.25, "lower", detail)


def cache_results() -> list[Result]:
    """P9, where that benchmark is there."""
    if importlib.util.find_spec("benchmarks.bench_cache") is None:
        return []
    from benchmarks import bench_cache

    return bench_cache.run()


def notes_of(rows: Items[Result]) -> list[str]:
    def detail(row: Result, key: str) -> Any:
        return row.detail.get(key)

    doors = [row for row in rows if row.id.startswith("P1")]
    lines = [f"{row.id}: {detail(row, 'tokens_per_s')}; by CPU time {detail(row, 'cpu_ratio')}" for row in doors]
    lines += [f"{row.id}: seconds {detail(row, 'median_s')}" for row in doors]
    for row in rows:
        if row.id.startswith("readout"):
            lines.append(f"{row.id}: CPU s {detail(row, 'cpu_s')}; over the head's product {detail(row, 'over_own_gemm')}; ")
            lines[-1] += f"peak memory over inputs {detail(row, 'peak_over_inputs') or 'not measured'}"
    return lines


def as_an_engine_runs() -> None:
    """Starts this command anew with the memory settings of an engine's process, so that the side in this process has them too."""
    if not KEPT_MEMORY.keys() <= os.environ.keys():
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.bench_scoring", *sys.argv[1:]], {**KEPT_MEMORY, **os.environ}
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 2048], help="rows of the timed readouts")
    parser.add_argument("--memory-rows", type=int, default=8192, help="rows of P7")
    options = parser.parse_args()
    as_an_engine_runs()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    rows = asyncio.run(grpc_results(options.repeats))
    rows += memory_results(options.memory_rows)
    rows += [time_result(count, signal, options.repeats) for count in options.rows for signal in ("topk", "candidates")]
    rows.append(topk_over_gather(options.repeats))
    rows += cache_results()
    loads = f"load of the machine at the start {load:.1f}, at the end {os.getloadavg()[0]:.1f}"
    write_results("scoring", rows, [*notes_of(rows), loads])


if __name__ == "__main__":
    main()
