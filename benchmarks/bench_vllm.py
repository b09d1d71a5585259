"""`python -m benchmarks.bench_vllm`, in .venv-vllm: the vllm engine against stock vLLM on the same weights, on its CPU build.

P2a: 32 sequences of 512 tokens, top-64 of every position, client included. Stock vLLM is its own server, asked for
`prompt_logprobs=64` on /v1/completions with token ids, in the better of one request for all and one for each; what its client
pays is only `orjson.loads`, not the way from its maps into arrays. Ours is the teacher service asked through gRPC, to numpy
arrays. Stock has no candidates of the caller's own on a CPU: ours are held against its top-64. The two take turns on fresh
sequences.

P1 holds gRPC against the same engine called in this process. P5 counts the tokens computed for a group of growing rollouts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from collections.abc import Sequence as Items
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from benchmarks.growing_rollouts import GROUP, PROMPT_TOKENS, RESPONSE_TOKENS, tokens_of_a_group
from benchmarks.results import Result, write_results
from benchmarks.scoring.house import NAME, teacher_house
from benchmarks.scoring.models import Shape, save_random_qwen3
from benchmarks.stock_vllm import SETTINGS, TOPK, Reply, StockClient, stock_server
from preceptor import wire
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.types import Grade, RaggedIds, Scored, Sequence, Want
from preceptor_teacher.engines.vllm import create

SMALL = Shape(hidden=64, layers=2, vocabulary=49_152)
BIG = Shape(hidden=256, layers=4, vocabulary=49_152)
TOKENS, WARM_SEQUENCES = 512, 4
ROWS = TOKENS - 1
DEADLINE_S = 600.0
ENGINE = {"dtype": "f32", "kv_cache_memory_bytes": 256 << 20, "block_size": 32}

CORES = os.cpu_count() or 1  # stock vLLM takes all of them by itself

T = TypeVar("T")
Ask = Callable[[Items[list[int]]], Awaitable[Reply]]


def drawn(seed: int, count: int) -> np.ndarray:
    """Fresh sequences, so that nothing can come from a cache."""
    return np.random.default_rng(seed).integers(0, SMALL.vocabulary, (count, TOKENS))


def topk_items(sequences: np.ndarray) -> list[ScoreItem]:
    return [ScoreItem(Sequence.of(ids[:1], ids[1:]), Want(sampled=True, topk=TOPK, grade=Grade.F16)) for ids in sequences]


def candidate_items(sequences: np.ndarray) -> list[ScoreItem]:
    """Other ids in every row."""
    offsets = np.arange(ROWS + 1, dtype=np.uint32) * TOPK
    chosen = np.random.default_rng(int(sequences[0, 0])).integers(0, SMALL.vocabulary, (len(sequences), ROWS * TOPK))
    wants = [Want(sampled=True, candidates=RaggedIds(offsets, ids.astype(np.uint32)), grade=Grade.F16) for ids in chosen]
    return [ScoreItem(Sequence.of(ids[:1], ids[1:]), want) for ids, want in zip(sequences, wants, strict=True)]


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    began = time.perf_counter()
    return await work, time.perf_counter() - began


def checked(outcomes: list[Any]) -> list[Scored]:
    scored = [one for one in outcomes if isinstance(one, Scored) and one.rows.count == ROWS]
    if len(scored) != len(outcomes):
        raise RuntimeError(f"{len(outcomes) - len(scored)} of {len(outcomes)} items have no rows: {outcomes}")
    return scored


def reply_bytes(scored: list[Scored]) -> int:
    return sum(wire.rows_to_proto(one.rows, Grade.F16, SMALL.vocabulary)[0].ByteSize() for one in scored)


# ---------------------------------------------------------------- P2a: against stock


class Turns:
    """Tokens a second and bytes a token of both sides."""

    def __init__(self, stock: StockClient, ours: AsyncTeacherClient) -> None:
        self._ways: dict[str, Ask] = {"one request": stock.together, "one request each": stock.side_by_side}
        self._ours = ours
        self.speeds: dict[str, list[float]] = {}
        self.bytes: dict[str, float] = {}
        self.apart_nats = 0.0
        self.stock_way = ""

    async def warm_up(self) -> None:
        """Both of stock's ways on a few sequences; the faster one is its side from then on."""
        sequences = drawn(0, WARM_SEQUENCES)
        seconds: dict[str, float] = {}
        for _ in range(2):  # the first call of a server pays for its caches
            for name, ask in self._ways.items():
                seconds[name] = (await timed(ask(sequences.tolist())))[1]
            checked(await self._ours.score(NAME, topk_items(sequences), deadline_s=DEADLINE_S))
        self.stock_way = min(seconds, key=seconds.__getitem__)

    async def take(self, seed: int, count: int) -> None:
        sequences = drawn(seed, count)
        reply, seconds = await timed(self._ways[self.stock_way](sequences.tolist()))
        self._note("stock", count, seconds, reply.body_bytes)
        for name, items in (("topk", topk_items(sequences)), ("candidates", candidate_items(sequences))):
            outcomes, seconds = await timed(self._ours.score(NAME, items, deadline_s=DEADLINE_S))
            scored = checked(outcomes)
            self._note(name, count, seconds, reply_bytes(scored))
            if name == "topk":
                self.apart_nats = max(self.apart_nats, difference(reply, scored))

    def _note(self, name: str, count: int, seconds: float, size: int) -> None:
        self.speeds.setdefault(name, []).append(count * TOKENS / seconds)
        self.bytes[name] = size / (count * TOKENS)

    def ratio(self, name: str) -> float:
        """Ours over stock, turn by turn."""
        return median(mine / theirs for mine, theirs in zip(self.speeds[name], self.speeds["stock"], strict=True))


def difference(reply: Reply, scored: list[Scored]) -> float:
    """How far the two sides' best log-probability of a row lie apart at most."""
    most = 0.0
    for choice, one in zip(reply.choices, scored, strict=True):
        assert one.rows.topk is not None
        pairs = zip(choice["prompt_logprobs"][1:], one.rows.topk.logprobs[:, 0].tolist(), strict=True)
        most = max(most, *(abs(max(entry["logprob"] for entry in listed.values()) - best) for listed, best in pairs))
    return most


async def against_stock(root: Path, count: int, repeats: int) -> list[Result]:
    folder = save_random_qwen3(root / "small", SMALL)
    async with (
        stock_server(folder, root / "stock.log") as stock,
        teacher_house(root / "house", {"engine": "vllm", "folder": str(folder), "threads": CORES, **ENGINE}) as (doors, _),
        AsyncTeacherClient(doors.grpc) as client,
    ):
        turns = Turns(stock, client)
        await turns.warm_up()
        for turn in range(repeats):
            await turns.take(turn + 1, count)
    detail = {
        "model": str(SMALL),
        "items": f"{count} x {TOKENS} tokens, k = {TOPK}, sampled; ours in f16",
        "tokens_per_s": {name: round(median(values)) for name, values in turns.speeds.items()},
        "bytes_per_token": {name: round(size, 1) for name, size in turns.bytes.items()},
        "stock_settings": f"{turns.stock_way}; {' '.join(SETTINGS)}",
        "best_apart_nats": turns.apart_nats,  # ours rounded to f16
        "threads": CORES,
    }
    bytes_ratio = turns.bytes["topk"] / turns.bytes["stock"]
    return [
        Result("P2a.topk.vllm", "tokens/s over stock vLLM, top-64", turns.ratio("topk"), 4, "higher", detail),
        Result("P2a.candidates.vllm", "tokens/s over stock's top-64, own ids", turns.ratio("candidates"), 6, "higher", detail),
        Result("P2a.bytes.vllm", "bytes a token over stock's", bytes_ratio, 0.1, "lower", detail),
    ]


# ---------------------------------------------------------------- P1, P5


async def through_grpc(root: Path, count: int, repeats: int) -> Result:
    folder = save_random_qwen3(root / "big", BIG)
    engine = create({"name": NAME, "folder": folder, **ENGINE})
    ratios, seconds = [], {"in_process": [], "grpc": []}
    async with (
        teacher_house(root / "door", {"engine": "vllm", "folder": str(folder), **ENGINE}) as (doors, _),
        AsyncTeacherClient(doors.grpc) as client,
    ):
        for turn in range(repeats + 1):
            items = topk_items(drawn(1000 + turn, count))
            began = time.perf_counter()
            checked(engine.score(items))
            alone = time.perf_counter() - began
            got, behind = await timed(client.score(NAME, items, deadline_s=DEADLINE_S))
            checked(got)
            if turn:
                ratios.append(alone / behind)
                seconds["in_process"].append(alone)
                seconds["grpc"].append(behind)
    engine.close()
    tokens = count * TOKENS
    detail = {
        "model": str(BIG),
        "tokens_per_s": {name: round(tokens / median(values)) for name, values in seconds.items()},
        "ratios": [round(ratio, 3) for ratio in sorted(ratios)],
    }
    return Result("P1.grpc.vllm", f"gRPC tokens/s over in-process, {BIG}", median(ratios), 0.95, "higher", detail)


async def growing(root: Path) -> Result:
    folder = save_random_qwen3(root / "growing", SMALL)
    counts = await tokens_of_a_group(root / "queue", {"engine": "vllm", "folder": str(folder), **ENGINE}, SMALL.vocabulary)
    unique = PROMPT_TOKENS + GROUP * RESPONSE_TOKENS
    what = f"tokens computed over unique ones, {GROUP} rollouts of one {PROMPT_TOKENS}-token prompt, growing"
    return Result(
        "P5.vllm",
        what,
        counts.computed / unique,
        1.05,
        "lower",
        {"computed": counts.computed, "unique": unique, **counts.detail()},
    )


async def run(count: int, repeats: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return [
            await growing(root),
            *await against_stock(root, count, repeats),
            await through_grpc(root, count, repeats),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--sequences", type=int, default=32, help="sequences of 512 tokens in a turn (default: 32)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = asyncio.run(run(options.sequences, options.repeats))
    notes = [f"{row.id}: {row.detail}" for row in rows if row.id in {"P2a.topk.vllm", "P1.grpc.vllm", "P5.vllm"}]
    loads = f"load of the machine at the start {load:.1f}, at the end {os.getloadavg()[0]:.1f}"
    write_results("vllm", rows, [*notes, loads])


if __name__ == "__main__":
    main()
