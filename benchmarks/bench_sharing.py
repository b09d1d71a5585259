"""`python -m benchmarks.bench_sharing`: eight jobs share one teacher, by the wall clock (P6).

Jobs come through gRPC and through the queue together, each with a key that says its weight. Throughput: the same requests as
eight jobs and as one, in turns, over the middle three fifths of the answers, in which no worker runs dry. Contention: one job has
asked for 50 times its share at the start, five ask evenly for a quarter more than theirs, and two victims, one at each door, for
half of theirs. Jain's index is over what each was served / min(what it asked for, its fair share by weight of all that was
served). A victim's p95 is held against its p95 alone plus one full batch. Once with equal weights and once with 1:2:4, on one
worker and on three.

The `fake` engine takes as long as a model of a given speed without using a core, so that what is shared is the teacher and not
this machine; `hf` is the bundled teacher on one thread. It has one case, equal weights on one worker, since more workers would
only share the cores, and a shorter crowd, since it serves more requests a second. `make bench-sim` has the same in virtual time.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Result, write_results
from benchmarks.wall.cases import BIG, EIGHT, WEIGHTS, Contended, contended, eight_jobs, one_job, serve, served_per_s
from benchmarks.wall.jobs import Size
from benchmarks.wall.pool import pool
from preceptor_teacher.pool import PoolPolicy

BUNDLED = Path(__file__).parents[1] / "examples" / "tiny" / "teacher"
HF_SECONDS = 20.0
TOKENS, TINY_TOKENS = 800, 480  # of a request; the bundled teacher reads 512 at most


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine, and the ending of its results' ids."""

    what: str
    suffix: str
    options: Mapping[str, Any]
    size: Size
    tokens_per_s: float | None = None  # of a worker, where it is known better than by measuring
    cases: Sequence[tuple[str, int]] = ()  # weights and workers; empty: all that are asked for
    seconds: float = math.inf  # of the contended part at most
    times: int = 1  # as many requests a round, where they are quick

    def batch_s(self, measured_tokens_per_s: float) -> float:
        """What one full batch takes a worker."""
        return PoolPolicy().batch_tokens / (self.tokens_per_s or measured_tokens_per_s)


@dataclass(frozen=True, slots=True)
class Found:
    """What one pool gave."""

    throughput: Sequence[float]
    per_s: float
    contended: Contended
    load: float


def kinds(tokens_per_s: float) -> dict[str, Kind]:
    fake, hf = {"engine": "fake", "tokens_per_s": tokens_per_s}, {"folder": str(BUNDLED)}
    return {
        "fake": Kind(f"fake, {tokens_per_s:,.0f} tokens/s a worker", "", fake, Size(TOKENS, 61), tokens_per_s),
        "hf": Kind("hf, bundled teacher", ".hf", hf, Size(TINY_TOKENS, 261), cases=[("equal", 1)], seconds=HF_SECONDS, times=4),
    }


def cases_of(kind: Kind, options: argparse.Namespace) -> list[tuple[str, int]]:
    """Weights and workers, those that were asked for."""
    asked = [(weights, workers) for workers in options.workers for weights in options.weights]
    return [case for case in asked if not kind.cases or case in kind.cases]


async def one_pool(kind: Kind, folder: Path, weights: Sequence[float], options: argparse.Namespace, workers: int) -> Found:
    """All figures of one engine, weights and number of workers; a first round warms the workers and is not kept."""
    weight = dict(zip(EIGHT, weights, strict=True))
    async with pool(folder, kind.options, workers, {**weight, BIG: 1.0}) as running:
        await serve(running, eight_jobs(kind.size), 16)
        count, ratios, alone_per_s = options.requests * workers * kind.times, list[float](), list[float]()
        for _ in range(options.rounds):
            alone_per_s.append(await served_per_s(running, one_job(kind.size), count))
            ratios.append(await served_per_s(running, eight_jobs(kind.size), count) / alone_per_s[-1])
        per_s = median(alone_per_s)
        batch_s = kind.batch_s(per_s * kind.size.tokens / workers)
        crowd = await contended(running, kind.size, weight, per_s, batch_s, min(options.seconds, kind.seconds))
    return Found(ratios, per_s, crowd, os.getloadavg()[0])


async def measure(options: argparse.Namespace) -> list[Result]:
    rows: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="preceptor-sharing-") as root:
        for name in options.engines:
            kind, found = kinds(options.tokens_per_s)[name], dict[str, Found]()
            for weights, workers in cases_of(kind, options):
                case = f"{weights}, {workers} worker{'s' if workers > 1 else ''}"
                folder = Path(root) / f"{name}-{len(found)}"
                found[case] = await one_pool(kind, folder, WEIGHTS[weights], options, workers)
                print(f"{name}: {case}: {found[case]}", flush=True)
            rows += results(kind, found) if found else []
    return rows


def results(kind: Kind, found: Mapping[str, Found]) -> list[Result]:
    """Each figure of the worst case; all cases stand beside it."""

    def worst(row: str, what: str, value: Callable[[Found], float], bar: float, better: Any) -> Result:
        values = {case: value(one) for case, one in found.items()}
        most = min(values.values()) if better == "higher" else max(values.values())
        detail = {"engine": kind.what, "cases": {case: round(one, 4) for case, one in values.items()}, "of": about(found)}
        return Result(f"{row}{kind.suffix}", f"{what}, {kind.what}", most, bar, better, detail)

    return [
        worst("P6.throughput", "eight jobs over one big job, worst case", lambda one: median(one.throughput), 0.95, "higher"),
        worst(
            "P6.jain", "Jain over served / min(demand, fair share), worst case", lambda one: one.contended.jain, 0.98, "higher"
        ),
        worst("P6.wall", "a victim's p95 over (alone + one batch), worst case", lambda one: one.contended.wall, 2.0, "lower"),
    ]


def about(found: Mapping[str, Found]) -> dict[str, Any]:
    """What the ratios hide."""
    return {
        case: {
            "requests_per_s": round(one.per_s, 2),
            "throughput": [round(ratio, 3) for ratio in one.throughput],
            "load": round(one.load, 1),
            **one.contended.detail(),
        }
        for case, one in found.items()
    }


def notes_of(rows: Sequence[Result]) -> list[str]:
    lines = [f"{row.id}: {row.detail['cases']}" for row in rows]
    loads = {case: one["load"] for row in rows[:1] for case, one in row.detail["of"].items()}
    lose = "where we lose: a job alone would be served at once; here a victim waits for the batches that are under way"
    return [*lines, f"load of the machine after each case: {loads}", lose]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=["fake", "hf"], default=["fake", "hf"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 3], help="workers, each a process (default: 1 3)")
    parser.add_argument("--weights", nargs="+", choices=sorted(WEIGHTS), default=list(WEIGHTS))
    parser.add_argument("--tokens-per-s", type=float, default=4000.0, help="speed of a fake worker (default: 4000)")
    parser.add_argument("--requests", type=int, default=96, help="requests a worker of a throughput round (default: 96)")
    parser.add_argument("--rounds", type=int, default=3, help="throughput rounds of each side (default: 3)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the contended part (default: 60)")
    options = parser.parse_args()
    rows = asyncio.run(measure(options))
    write_results("sharing", rows, notes_of(rows))


if __name__ == "__main__":
    main()
