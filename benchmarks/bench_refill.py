"""`make bench-refill`: what it gains that sequences take the places of those that ended (continuous batching), on the hf engine.

The same sequences twice through the same engine in the same memory: in units of one batch each, which end one after the other,
and in one unit whose places are taken again. Groups of eight samples of a prompt, 96 sequences for 16 places; a random student,
f32; lengths log-uniform from 16 to 256 and forced. Both ways draw as many tokens, and the same ones, but for a draw that padding
moves by a rounding. Turn by turn, in alternating order; the first turn warms up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
from torch import Tensor

from benchmarks.results import Result, commit, write_results
from benchmarks.step import cases
from benchmarks.step.ours import lengths_of_rollouts
from preceptor import wire
from preceptor.types import Ids
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import batch, chunks
from preceptor_rollout.calls import GENERATE
from preceptor_rollout.decoding import Decoder
from preceptor_rollout.engine import GenerationEngine, create
from preceptor_rollout.units import Unit, UnitSize, cut_into_units

GROUPS, SAMPLES, PLACES, TURNS = 12, 8, 16, 4
BATCH_TOKENS = PLACES * (cases.PROMPT_WORDS + cases.LONGEST)
WAYS = {"one after the other": 1, "refilled": GROUPS * SAMPLES}
"""Batches' worth of sequences in a unit."""

Drawn = dict[tuple[int, int], list[int]]


@dataclass(slots=True)
class Passes:
    """What the model did."""

    prompt_tokens: int = 0
    rows: list[int] = field(default_factory=list[int])
    """Places of each pass that appends a token, ended ones included."""


@dataclass(frozen=True, slots=True)
class Run:
    """One way, once."""

    seconds: float
    cpu_s: float
    passes: Passes
    drawn: Drawn

    @property
    def tokens(self) -> int:
        return sum(map(len, self.drawn.values()))

    @property
    def used(self) -> float:
        """The share of places that drew a token which counts; a sequence's first one needs no place."""
        return (self.tokens - len(self.drawn)) / sum(self.passes.rows)

    def told(self) -> dict[str, float]:
        counts = {"passes": len(self.passes.rows), "prompt_tokens": self.passes.prompt_tokens, "places_used": self.used}
        return {"tokens_per_s": self.tokens / self.seconds, "tokens_per_cpu_s": self.tokens / self.cpu_s, **counts}


@contextmanager
def counted() -> Iterator[Passes]:
    """Counts what a decoder is asked for."""
    passes = Passes()

    class Counted(Decoder):
        def join(self, prompts: Sequence[Ids], samples: Sequence[int]) -> Tensor:
            passes.prompt_tokens += sum(map(len, prompts))
            return Decoder.join(self, prompts, samples)

        def next(self, ids_b: Tensor) -> Tensor:
            passes.rows.append(len(ids_b))
            return Decoder.next(self, ids_b)

    with mock.patch.object(batch, "Decoder", Counted):
        yield passes


def request_of(groups: int, samples: int) -> rollout_pb2.GenerateRequest:
    """Random prompts."""
    sampling = rollout_pb2.Sampling(max_new_tokens=cases.LONGEST)
    message = rollout_pb2.GenerateRequest(run="bench", seed=1, sampling=sampling)
    shape = (groups, cases.PROMPT_WORDS)
    for prompt, ids in enumerate(np.random.default_rng(1).integers(10, cases.STUDENT.vocabulary, shape, np.uint32)):
        message.prompts.add(prompt=prompt, context=wire.ids_to_proto(ids), samples=samples)
    return message


def run(engine: GenerationEngine, message: rollout_pb2.GenerateRequest, size: UnitSize, lengths: Sequence[int]) -> Run:
    """Every unit of the request, one after the other."""
    version, drawn = engine.describe()[0].model, Drawn()
    with lengths_of_rollouts([lengths]), counted() as passes:
        began, cpu_began = time.perf_counter(), time.process_time()
        for unit in cut_into_units(message, size):
            for reply in engine.methods()[GENERATE](Unit(version, unit).to_bytes()):
                for chunk in chunks.from_bytes(reply):
                    ids = wire.ids_from_proto(chunks.response_of(chunk).response)
                    drawn.setdefault((chunk.id.prompt, chunk.id.sample), []).extend(ids.tolist())
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return Run(seconds, cpu_s, passes, drawn)


def measure(student: Path, turns: int, groups: int = GROUPS, samples: int = SAMPLES) -> list[dict[str, Run]]:
    """Way -> its run, turn by turn; a first turn is thrown away."""
    engine = create({"name": "student", "folder": student, "batch_tokens": BATCH_TOKENS})
    message, lengths = request_of(groups, samples), cases.lengths_of(groups * samples // cases.PROMPTS + 1)
    flat = [length for step in lengths for length in step][: groups * samples]
    found: list[dict[str, Run]] = []
    for turn in range(turns + 1):
        order = list(WAYS.items())[:: 1 if turn % 2 else -1]
        found.append({way: run(engine, message, UnitSize(BATCH_TOKENS, batches), flat) for way, batches in order})
        first, other = found[-1].values()
        assert first.tokens == other.tokens == sum(flat), "both ways draw as many tokens"
    return found[1:]


def results_of(turns: Sequence[dict[str, Run]]) -> list[Result]:
    alone, refilled = ([turn[way] for turn in turns] for way in WAYS)
    speed = [one.seconds / two.seconds for one, two in zip(alone, refilled, strict=True)]
    by_cpu = [one.cpu_s / two.cpu_s for one, two in zip(alone, refilled, strict=True)]
    passes = [len(two.passes.rows) / len(one.passes.rows) for one, two in zip(alone, refilled, strict=True)]
    same = [sum(one.drawn[name] == two.drawn[name] for name in one.drawn) for one, two in zip(alone, refilled, strict=True)]
    told = {way: [turn[way].told() for turn in turns] for way in WAYS}
    case = {"student": str(cases.STUDENT), "engine": "hf", "threads": 1, "places": PLACES, "sequences": len(alone[0].drawn)}
    detail = {
        **case,
        "tokens": alone[0].tokens,
        "turns": speed,
        "turns_by_cpu": by_cpu,
        "sequences_with_the_same_ids": same,
        **told,
        "commit": commit(),
    }
    return [
        Result(
            "refill.speed", "tokens a second, places taken again over batch after batch", median(speed), 1.0, "higher", detail
        ),
        Result("refill.cpu", "the same by CPU time, for a machine that others use", median(by_cpu), 1.0, "higher", detail),
        Result("refill.passes", "passes over the model, the same", median(passes), 1.0, "lower", detail),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=TURNS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        student, _ = cases.save_pair(Path(folder))
        write_results("refill", results_of(measure(student, chosen.turns)))


if __name__ == "__main__":
    main()
