"""P2: the teacher service on either engine, asked through gRPC to arrays, against stock vLLM's own server on the same weights.

Stock is asked for `prompt_logprobs=64` on /v1/completions with token ids, in the better of one request for all and one for each;
what its client pays is only `orjson.loads`, not the way from its maps into arrays. It has no candidates of the caller's own on a
CPU: ours are held against its top-64. All take turns on fresh sequences.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Sequence as Items
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.on_vllm.items import CORES, DEADLINE_S, ITEMS, TOKENS, TOPK, VOCABULARY, checked, drawn, timed
from benchmarks.on_vllm.stock import Reply, StockClient, settings, stock_server
from benchmarks.results import Result
from benchmarks.scoring.house import NAME, teacher_house
from benchmarks.streaming.transport import cpu_s
from preceptor import wire
from preceptor.client import AsyncTeacherClient
from preceptor.types import Grade, Scored

WARM_SEQUENCES = 4
ENGINES: Mapping[str, Mapping[str, Any]] = {"hf": {}, "vllm": {"block_size": 32}}
SUFFIXES = {"hf": "", "vllm": ".vllm"}  # of ids
Ask = Callable[[Items[list[int]]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Contest:
    """A model that all sides serve, with the same memory for keys and values where it is vLLM's, and how much they are asked."""

    folder: Path
    what: str
    cache_bytes: int
    sequences: int
    repeats: int
    threads: int = CORES
    signals: tuple[str, ...] = ("topk", "candidates")


class Turns:
    """Tokens a second and bytes a token of every side; ours are called "engine signal"."""

    def __init__(self, stock: StockClient, ours: Mapping[str, AsyncTeacherClient], signals: Items[str]) -> None:
        self._ways: dict[str, Ask] = {"one request": stock.together, "one request each": stock.side_by_side}
        self._ours, self._signals = ours, signals
        self.speeds: dict[str, list[float]] = {}
        self.cpu_s: dict[str, list[float]] = {}
        self.bytes: dict[str, float] = {}
        self.split_s: dict[str, dict[str, float]] = {}
        self.apart_nats = 0.0
        self.stock_way = ""

    async def warm_up(self) -> None:
        """Both of stock's ways on a few sequences; the faster one is its side from then on."""
        sequences = drawn(0, WARM_SEQUENCES)
        seconds: dict[str, float] = {}
        for _ in range(2):  # the first call of a server pays for its caches
            for name, ask in self._ways.items():
                seconds[name] = (await timed(ask(sequences.tolist())))[1]
            for client, signal in product(self._ours.values(), self._signals):
                checked(await client.score(NAME, ITEMS[signal](sequences), deadline_s=DEADLINE_S))
        self.stock_way = min(seconds, key=seconds.__getitem__)

    async def take(self, seed: int, count: int) -> None:
        sequences = drawn(seed, count)
        began_cpu = cpu_s()
        reply, seconds = await timed(self._ways[self.stock_way](sequences.tolist()))
        self._note("stock", count, seconds, cpu_s() - began_cpu, reply.body_bytes)
        for (engine, client), signal in product(self._ours.items(), self._signals):
            began_cpu = cpu_s()
            outcomes, seconds = await timed(client.score(NAME, ITEMS[signal](sequences), deadline_s=DEADLINE_S))
            spent_s, scored = cpu_s() - began_cpu, checked(outcomes)
            self._note(f"{engine} {signal}", count, seconds, spent_s, reply_bytes(scored))
            self.split_s[f"{engine} {signal}"] = split_of(scored)
            if signal == "topk":
                self.apart_nats = max(self.apart_nats, difference(reply, scored))

    def _note(self, name: str, count: int, seconds: float, spent_s: float, size: int) -> None:
        self.cpu_s.setdefault(name, []).append(spent_s)
        self.speeds.setdefault(name, []).append(count * TOKENS / seconds)
        self.bytes[name] = size / (count * TOKENS)

    def ratios(self, name: str) -> list[float]:
        """Ours over stock, turn by turn."""
        return [mine / theirs for mine, theirs in zip(self.speeds[name], self.speeds["stock"], strict=True)]


def reply_bytes(scored: Items[Scored]) -> int:
    return sum(wire.rows_to_proto(one.rows, Grade.F16, VOCABULARY)[0].ByteSize() for one in scored)


def split_of(scored: Items[Scored]) -> dict[str, float]:
    """Where the engine's time went, by the receipts: items of one batch carry the same times."""
    times = [one.receipt.time for one in scored]
    return {
        "prefill": round(sum({one.prefill_s for one in times}), 3),
        "readout": round(sum({one.readout_s for one in times}), 3),
        "serialise": round(sum(one.serialise_s for one in times), 3),
    }


def difference(reply: Reply, scored: Items[Scored]) -> float:
    """How far the two sides' best log-probability of a row lie apart at most."""
    most = 0.0
    for choice, one in zip(reply.choices, scored, strict=True):
        assert one.rows.topk is not None
        pairs = zip(choice["prompt_logprobs"][1:], one.rows.topk.logprobs[:, 0].tolist(), strict=True)
        most = max(most, *(abs(max(entry["logprob"] for entry in listed.values()) - best) for listed, best in pairs))
    return most


async def turns_of(contest: Contest, root: Path) -> Turns:
    """All servers up, each with as many threads, never asked at once."""
    common = {"folder": str(contest.folder), "threads": contest.threads, "dtype": "f32"}
    async with AsyncExitStack() as up:
        stock = await up.enter_async_context(
            stock_server(contest.folder, root / "stock.log", contest.cache_bytes, contest.threads)
        )
        ours: dict[str, AsyncTeacherClient] = {}
        for engine, further in ENGINES.items():
            cache = {"kv_cache_memory_bytes": contest.cache_bytes} if engine == "vllm" else {}
            house = teacher_house(root / engine, {"engine": engine, **common, **further, **cache})
            doors, _ = await up.enter_async_context(house)
            ours[engine] = await up.enter_async_context(AsyncTeacherClient(doors.grpc))
        turns = Turns(stock, ours, contest.signals)
        await turns.warm_up()
        for turn in range(contest.repeats):
            await turns.take(turn + 1, contest.sequences)
    return turns


def detail_of(contest: Contest, turns: Turns) -> dict[str, Any]:
    return {
        "model": contest.what,
        "items": f"{contest.sequences} x {TOKENS} tokens, k = {TOPK}, sampled; ours in f16",
        "tokens_per_s": {name: round(median(values)) for name, values in turns.speeds.items()},
        "ratios": {name: [round(one, 2) for one in sorted(turns.ratios(name))] for name in turns.split_s},
        "cpu_s": {name: round(median(values), 2) for name, values in turns.cpu_s.items()},
        "engine_s": turns.split_s,
        "bytes_per_token": {name: round(size, 1) for name, size in turns.bytes.items()},
        "stock_settings": f"{turns.stock_way}; {' '.join(settings(contest.cache_bytes))}",
        "best_apart_nats": turns.apart_nats,  # ours rounded to f16
        "threads": contest.threads,
    }


async def p2a(contest: Contest, root: Path) -> list[Result]:
    turns = await turns_of(contest, root)
    found: list[Result] = []
    for engine, suffix in SUFFIXES.items():
        detail = {"engine": engine, **detail_of(contest, turns)}
        speed = {name: median(turns.ratios(f"{engine} {name}")) for name in contest.signals}
        bytes_ratio = turns.bytes[f"{engine} topk"] / turns.bytes["stock"]
        found += [
            Result(f"P2a.topk{suffix}", "tokens/s over stock vLLM, top-64", speed["topk"], 4, "higher", detail),
            Result(f"P2a.candidates{suffix}", "tokens/s over stock's top-64, own ids", speed["candidates"], 6, "higher", detail),
            Result(f"P2a.bytes{suffix}", "bytes a token over stock's", bytes_ratio, 0.1, "lower", detail),
        ]
    return found


async def p2b(contest: Contest, root: Path) -> list[Result]:
    turns = await turns_of(contest, root)
    what = f"tokens/s over stock vLLM, top-64, {contest.what}"
    detail, speed = detail_of(contest, turns), {name: median(turns.ratios(f"{name} topk")) for name in SUFFIXES}
    return [
        Result(f"P2b{suffix}", what, speed[engine], 1.3, "higher", {"engine": engine, **detail})
        for engine, suffix in SUFFIXES.items()
    ]
