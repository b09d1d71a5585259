"""`python -m benchmarks.noise`: how far one score is from another of the same token (N1), by everything that may differ.

Batch orders and company, chunkings of a growing log, prefix sharing, takeovers by another process, the score cache on and off,
and the doors (gRPC, REST, the queue), each against every sequence scored alone; the whole against the model in float64; the
payload grades against their stated bounds; and deterministic mode, where any difference at all counts.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import torch

from benchmarks.results import Result, write_results
from benchmarks.scoring.deviations import Deviations
from benchmarks.scoring.doors import through_cache, through_doors
from benchmarks.scoring.models import Shape, save_random_qwen3
from benchmarks.scoring.ways import GRADES, WAYS, Scene
from examples.tiny.task import load
from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor.types import Sequence
from preceptor_teacher.engines.hf import create

MODEL = Shape(hidden=128, layers=2, vocabulary=4096)
BUNDLED = Path(__file__).parents[1] / "examples" / "tiny" / "teacher"
MAX_NATS, P99_NATS, EXACT_NATS, TINY_EXACT_NATS = 1e-4, 2e-5, 1e-4, 1e-5
BIT_EQUAL = ("deterministic", "cache.on")


def noise_results(name: str, folder: Path, sequences: int, rounds: int) -> list[Result]:
    """The engine's own ways, in this process."""
    scene = Scene.of(folder, sequences, rounds)
    found = [result_of(f"N1.{way}.{name}", measure(scene), MAX_NATS) for way, measure in WAYS.items()]
    found.append(result_of(f"N1.float64.{name}", scene.against_float64(), EXACT_NATS))
    found += [result_of(f"N1.{grade}.{name}", scene.grade_over_bound(grade), 1.0) for grade in GRADES]
    return found


def on_its_task(sequences: int) -> Result:
    """The bundled teacher on text that it knows; random ids are so unlikely to it that a rounding of their scores shows."""
    texts = [Sequence.of(prompt_ids(one.prompt), text_ids(one.worked)) for one in load("heldout")[:sequences]]
    scene = Scene.of_sequences(BUNDLED, create({"name": "teacher", "folder": BUNDLED}), texts, 1)
    return result_of("N1.float64.tiny_task", scene.against_float64(), TINY_EXACT_NATS)


def result_of(result_id: str, deviations: Deviations, bar: float) -> Result:
    """The largest deviation against its bar; bits that have to be equal have the bar 0."""
    bar = 0.0 if any(name in result_id for name in BIT_EQUAL) else bar
    detail = {"p99": deviations.p99, "p99_bar": P99_NATS if bar == MAX_NATS else bar, "compared": deviations.count}
    return Result(result_id, deviations.what, deviations.largest, bar, "lower", detail)


async def door_results(folder: Path, sequences: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as root:
        scene = Scene.of(folder, sequences, 1)
        found = {**await through_doors(Path(root), scene), **await through_cache(Path(root), scene)}
    return [result_of(f"N1.{name}", deviations, MAX_NATS) for name, deviations in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=16, help="sequences of each table (default: 16)")
    parser.add_argument("--rounds", type=int, default=20, help="batch orders and chunkings (default: 20)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        random = save_random_qwen3(Path(root) / "random", MODEL)
        rows = noise_results("random", random, options.sequences, options.rounds)
        rows += noise_results("tiny", BUNDLED, options.sequences, options.rounds)
        rows.append(on_its_task(options.sequences))
        rows += asyncio.run(door_results(random, options.sequences))
    write_results("noise", rows, [f"{row.id}: p99 {row.detail['p99']:.2g} of {row.detail['compared']} values" for row in rows])


if __name__ == "__main__":
    main()
