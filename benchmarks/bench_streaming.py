"""`python -m benchmarks.bench_streaming`: what the queue costs (P1), what scoring while rollouts grow gains (P4) and shares (P5).

P1 compares tokens a second through tasks on the queue, their client included, with the same engine called in this process: the
same folder, options, thread and items, the two taking turns.

P4 draws the same rollouts twice, eight at a time. Once their tasks are open from the start and rows follow the tokens; once each
rollout is sent whole the moment it has ended, which is the better way not to stream. Then all are scored once more with nothing
else running, eight at a time: that is what the wait after a rollout's last token is held against.

P5 adds up the tokens that the teacher says it computed for eight rollouts of one prompt.

Services are processes of their own on an embedded Valkey, each engine on one thread; the score cache is off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Result, write_results
from benchmarks.scoring.models import Shape, save_random_qwen3
from benchmarks.streaming import transport
from benchmarks.streaming.runs import Plan, Timed, as_they_end, long_after, random_contexts, while_growing
from benchmarks.streaming.smollm2 import smollm2
from benchmarks.streaming.stage import Stage, stage

BUNDLED = Path(__file__).parents[1] / "examples" / "tiny" / "teacher"
RANDOM = Shape(hidden=128, layers=2, vocabulary=4096)
SLOTS, CHUNK = 8, 32
PROMPT, RESPONSE = 64, 512
GROUP, GROUP_PROMPT, GROUP_RESPONSE = 8, 512, 256


@dataclass(frozen=True, slots=True)
class Model:
    """A folder, what the results call it, and the ending of their ids; the empty one is what the bars were written for."""

    what: str
    folder: Path
    suffix: str
    vocabulary: int
    short: bool = False  # too short for a rollout of P4 or P5


def models_of(names: list[str], root: Path) -> list[Model]:
    """Those that were asked for; the random one and SmolLM2 are made."""
    makers = {
        "smollm2": lambda: Model("SmolLM2-135M, f32", smollm2(), "", 49_152),
        "random": lambda: Model(str(RANDOM), save_random_qwen3(root / "random", RANDOM), ".random", RANDOM.vocabulary),
        "tiny": lambda: Model("bundled teacher, vocabulary 261", BUNDLED, ".tiny", 261, short=True),
    }
    return [makers[name]() for name in names]


# ---------------------------------------------------------------- P1: the queue's door


async def redis_result(model: Model, engine: str, options: Mapping[str, Any], root: Path, repeats: int) -> Result:
    turns = await transport.turns(root / "transport", engine, {**options, "folder": str(model.folder)}, model.vocabulary, repeats)
    detail = {"model": model.what, "engine": engine, "items": transport.ITEMS, **turns.detail()}
    what = f"Redis door tokens/s over in-process, {model.what}"
    return Result(f"P1.redis{model.suffix}", what, median(turns.ratios), 0.90, "higher", detail)


# ---------------------------------------------------------------- P4: streaming


@dataclass(frozen=True, slots=True)
class Round:
    """One set of rollouts, scored in all three ways."""

    growing: Timed
    ending: Timed
    after: Timed

    def __post_init__(self) -> None:
        if any((self.growing.responses[name] != ids).any() for name, ids in self.ending.responses.items()):
            raise RuntimeError("the two runs drew different tokens")


async def rounds(scene: Stage, plan: Plan, count: int) -> list[Round]:
    """Turns in changing order; a small round before them warms everything up and is not kept."""
    await one_round(scene, replace(plan, contexts=plan.contexts[: plan.slots], new_tokens=2 * CHUNK), "warm", 0)
    return [await one_round(scene, replace(plan, seed=number), f"round{number}", number) for number in range(count)]


async def one_round(scene: Stage, plan: Plan, name: str, number: int) -> Round:
    ways = [("growing", while_growing), ("ending", as_they_end)]
    got: dict[str, Timed] = {}
    for way, run in ways if number % 2 == 0 else reversed(ways):
        got[way] = await run(scene, plan, f"{name}-{way}")
    after = await long_after(scene, plan, f"{name}-after", got["ending"].responses)
    return Round(got["growing"], got["ending"], after)


def p4_results(model: Model, engine: str, plan: Plan, found: list[Round]) -> list[Result]:
    """Medians over all rollouts, and over the rounds."""
    waits = {
        "after the last token, streaming": [wait for one in found for wait in one.growing.latencies_s],
        "sent whole at its end, others being drawn": [wait for one in found for wait in one.ending.latencies_s],
        "sent whole, nothing else running": [wait for one in found for wait in one.after.latencies_s],
    }
    streaming, ending, after = (median(values) for values in waits.values())
    detail = {
        "model": model.what,
        "engine": engine,
        "rollouts": len(plan.rollouts),
        "rounds": len(found),
        "shape": f"{len(plan.contexts[0])} + {plan.new_tokens} tokens, {plan.slots} slots, chunks of {CHUNK}",
        "median_s": {name: round(median(values), 4) for name, values in waits.items()},
        "worst_s": {name: round(max(values), 4) for name, values in waits.items()},
        "over_sent_at_its_end": round(streaming / ending, 4),
        "makespan_s": [{"streaming": round(one.growing.makespan_s, 2), "not": round(one.ending.makespan_s, 2)} for one in found],
        "tokens_computed": {"streaming": found[0].growing.counts.computed, "sent whole": found[0].ending.counts.computed},
    }
    latency = f"wait after a rollout's last token over scoring it afterwards, {model.what}"
    makespan = f"draw and score: streaming over sending rollouts whole as they end, {model.what}"
    ratio = median(one.growing.makespan_s / one.ending.makespan_s for one in found)
    return [
        Result(f"P4.latency{model.suffix}", latency, streaming / after, 0.15, "lower", detail),
        Result(f"P4.makespan{model.suffix}", makespan, ratio, 1.05, "lower", detail),
    ]


# ---------------------------------------------------------------- P5: shared prefixes


async def p5_result(scene: Stage, model: Model, engine: str) -> Result:
    """Unique tokens: the prompt once, and every drawn token but each rollout's last, after which nothing is read."""
    [context] = random_contexts(1, GROUP_PROMPT, model.vocabulary, seed=5)
    plan = Plan((context,), GROUP, GROUP, GROUP_RESPONSE, seed=5)
    counts = (await while_growing(scene, plan, "group")).counts
    unique = GROUP_PROMPT + GROUP * (GROUP_RESPONSE - 1)
    detail = {
        "model": model.what,
        "engine": engine,
        "computed": counts.computed,
        "unique": unique,
        "each_alone": GROUP * (GROUP_PROMPT + GROUP_RESPONSE - 1),
        "deliveries": counts.deliveries,
    }
    what = f"teacher tokens for {GROUP} rollouts of one {GROUP_PROMPT}-token prompt over unique ones, {model.what}"
    return Result(f"P5{model.suffix}", what, counts.computed / unique, 1.05, "lower", detail)


# ---------------------------------------------------------------- all of it


async def results_of(model: Model, options: argparse.Namespace, root: Path) -> list[Result]:
    teacher = {"engine": options.engine, **options.engine_options}
    found: list[Result] = []
    if "p1" in options.parts:
        found.append(await redis_result(model, options.engine, options.engine_options, root, options.repeats))
    if model.short or not {"p4", "p5"} & set(options.parts):
        return found
    room = GROUP * (GROUP_PROMPT + GROUP_RESPONSE)
    async with stage(root / "stage", {**teacher, "folder": str(model.folder)}, model.folder, room, CHUNK) as scene:
        if "p5" in options.parts:
            found.append(await p5_result(scene, model, options.engine))
        if "p4" in options.parts:
            contexts = random_contexts(options.rollouts, PROMPT, model.vocabulary, seed=4)
            plan = Plan(contexts, 1, SLOTS, RESPONSE, seed=0)
            found += p4_results(model, options.engine, plan, await rounds(scene, plan, options.rounds))
    return found


async def measure(options: argparse.Namespace) -> list[Result]:
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="preceptor-streaming-") as folder:
        for model in models_of(options.models, Path(folder)):
            load, began_s = os.getloadavg()[0], time.perf_counter()
            rows = await results_of(model, options, Path(folder) / f"work{model.suffix}")
            around = {"load": [round(load, 1), round(os.getloadavg()[0], 1)], "took_s": round(time.perf_counter() - began_s)}
            found += [replace(row, detail={**row.detail, **around}) for row in rows]
    return found


def notes_of(rows: list[Result]) -> list[str]:
    kept = (
        "tokens_per_s",
        "cpu_ratio",
        "ratios",
        "median_s",
        "worst_s",
        "makespan_s",
        "computed",
        "unique",
        "each_alone",
        "load",
    )
    lines = [f"{row.id}: {json.dumps({key: row.detail[key] for key in kept if key in row.detail})}" for row in rows]
    lose = (
        "where we lose: a teacher that is asked for 32 tokens at a time has smaller batches than one that is sent rollouts whole:"
    )
    return [*lines, f"{lose} a token costs it more, which is hidden only where its core would have idled"]


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["smollm2", "random", "tiny"], default=["smollm2", "tiny"])
    parser.add_argument("--parts", nargs="+", choices=["p1", "p4", "p5"], default=["p1", "p4", "p5"])
    parser.add_argument("--engine", default="hf", help="the teacher's engine (default: hf)")
    parser.add_argument("--engine-options", type=json.loads, default={}, help="its options, as JSON (default: none)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side of P1 (default: 5)")
    parser.add_argument("--rollouts", type=int, default=32, help="rollouts of a round of P4 (default: 32)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of P4 (default: 1)")
    return parser.parse_args()


def main() -> None:
    rows = asyncio.run(measure(options_of()))
    write_results("streaming", rows, notes_of(rows))


if __name__ == "__main__":
    main()
