"""`python -m benchmarks.bench_step`: one step of distillation (generate, score, train) against TRL's, and its overlap (P8).

P8.step: 32 prompts, one rollout each, lengths log-uniform from 16 to 256 and forced to be the same on both sides; random pair,
f32, as many threads as the machine has cores. Ours is the whole system in one process: learner, journal, queue, three services,
and a published version that is loaded again after every step. TRL's `DistillationTrainer` 1.16.0 runs in an environment of its
own, `.venv-trl`. Both sides run turn by turn, the second turn in the opposite order; TRL at two settings in the first, one batch
of 32 or four of 8 accumulated, and at the better one from then on. Its checkpointing and bf16, on by default, are off: both are
slower on a CPU. The first step of every run warms up. Reverse KL on both sides; TRL's over the whole vocabulary, its only way,
ours on both sides' 64 best ids, the drawn one and the tail. P8.step.whole: ours over the whole vocabulary, too.

P8.overlap: the same step with staleness 1, the rollout service on one core and everything else on another: the speedup over one
group after the other, over what two groups gain that never wait. Each group alone is read off steps of staleness 0. Rollouts
end where the student ends them here, after 90 tokens on average.

Stopped and called again on a clean checkout it goes on where it was: each run is kept in `.cache/bench-step/`, for one commit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.loss.trl_parity import PINNED, environment
from benchmarks.results import Result, add_results, commit
from benchmarks.step import cases
from benchmarks.step.ours import LEARNING_RATE, LISTS, MICRO_BATCH_TOKENS, WHOLE, Measured, Signal, steps_inline
from benchmarks.step.overlap import Overlap, steps_on_two_cores
from benchmarks.step.parts import Part, Parts

ROOT = Path(__file__).parents[1]
STEPS, TURNS = 4, 2
ACCUMULATE = (1, 4)
MEAN_TOKENS = 90
OURS, OURS_WHOLE = "ours", "ours-whole"
TRL = {accumulate: f"trl-{accumulate}" for accumulate in ACCUMULATE}


@dataclass(frozen=True, slots=True)
class Bench:
    """One pair, one list of prompts and lengths, and the ways to take the steps."""

    root: Path
    pair: tuple[Path, Path]
    prompts: Path
    lengths: Sequence[Sequence[int]]
    threads: int

    @classmethod
    def at(cls, root: Path, steps: int, threads: int) -> Bench:
        pair = cases.save_pair(root)
        return cls(root, pair, cases.save_prompts(root / "prompts.jsonl", steps), cases.lengths_of(steps), threads)

    def sides(self) -> dict[str, Callable[[str], Part]]:
        """Name of a side -> what runs it in a folder of that name."""
        ours = {OURS: partial(self.ours, LISTS), OURS_WHOLE: partial(self.ours, WHOLE)}
        return ours | {name: partial(self.trl, accumulate) for accumulate, name in TRL.items()}

    def ours(self, signal: Signal, name: str) -> Part:
        work = steps_inline(self.pair, self.prompts, self.root / name, self.lengths, self.threads, signal)
        found = part_of(asyncio.run(work))
        assert found["tokens"] == [sum(step) for step in self.lengths], "both sides draw the same number of tokens"
        return found

    def trl(self, accumulate: int, name: str) -> Part:
        job, out = self.root / f"{name}-job.json", self.root / f"{name}-out.json"
        files = {"student": str(self.pair[0]), "teacher": str(self.pair[1]), "prompts": str(self.prompts)}
        numbers = {"longest": cases.LONGEST, "accumulate": accumulate, "threads": self.threads, "learning_rate": LEARNING_RATE}
        job.write_text(json.dumps({**files, **numbers, "lengths": self.lengths}))
        side = Path(__file__).with_name("step") / "trl_side.py"
        env = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1"}
        subprocess.run([str(environment()), str(side), str(job), str(out)], check=True, env=env)
        found: Part = json.loads(out.read_text())
        assert found["tokens"] == [sum(step) for step in self.lengths], "both sides draw the same number of tokens"
        assert found["prompt_tokens"] == [cases.PROMPTS * cases.PROMPT_WORDS] * len(self.lengths), "and read the same"
        return found


def part_of(measured: Measured) -> Part:
    drawing = [stages["generate"] for stages in measured.stages]
    tokens = [float(one) for one in measured.tokens]
    return {"seconds": measured.seconds, "drawing": drawing, "tokens": tokens, "busy": measured.busy_s}


def counted_s(part: Part) -> float:
    """All of its steps but the first."""
    return sum(part["seconds"][1:])


def better_setting(first_turn: dict[str, Part]) -> str:
    """TRL's."""
    return min(TRL.values(), key=lambda name: counted_s(first_turn[name]))


def turns_of(bench: Bench, parts: Parts, turns: int) -> list[dict[str, Part]]:
    """Side -> its run, turn by turn."""
    sides, found = bench.sides(), list[dict[str, Part]]()
    for turn in range(turns):
        names = [name for name in sides if not found or name not in TRL.values() or name == better_setting(found[0])]
        order = names if turn % 2 == 0 else names[::-1]
        runs = {name: parts.once(f"turn-{turn}-{name}", partial(sides[name], f"turn-{turn}-{name}")) for name in order}
        found.append(runs)
    return found


def step_results(turns: Sequence[dict[str, Part]], threads: int) -> list[Result]:
    """The median over turns of TRL's seconds over ours."""
    best = better_setting(turns[0])
    detail = {
        "student": str(cases.STUDENT),
        "teacher": str(cases.TEACHER),
        "engine": "hf, in one process",
        "threads": threads,
        "steps_counted_a_turn": len(turns[0][OURS]["seconds"]) - 1,
        "tokens_a_step": turns[0][OURS]["tokens"],
        "micro_batch_tokens": MICRO_BATCH_TOKENS,
        "seconds": [{name: part["seconds"] for name, part in turn.items()} for turn in turns],
        "trl_best_setting": best,
        "trl": PINNED[0],
        "commit": commit(),
    }

    def result(name: str, what: str, ours: str) -> Result:
        ratios = [counted_s(turn[best]) / counted_s(turn[ours]) for turn in turns]
        drawing = [turn[ours]["drawing"] for turn in turns]
        return Result(name, what, median(ratios), 1.3, "higher", {**detail, "turns": ratios, "ours_drawing_s": drawing})

    return [
        result("P8.step", "TRL's seconds a step over ours", OURS),
        result("P8.step.whole", "TRL's seconds a step over ours on the whole vocabulary", OURS_WHOLE),
    ]


def overlap_result(root: Path, steps: int, parts: Parts) -> Result:
    root.mkdir()
    student, teacher = cases.save_pair(root)
    ending = cases.that_ends(student, root / "ending", MEAN_TOKENS)
    prompts = cases.save_prompts(root / "prompts.jsonl", steps)

    def run(staleness: int) -> Part:
        work = steps_on_two_cores(root / f"stale-{staleness}", ending, teacher, prompts, steps, staleness)
        return part_of(asyncio.run(work))

    in_turn, side_by_side = (parts.once(f"overlap-{staleness}", partial(run, staleness)) for staleness in (0, 1))
    found = Overlap.of(in_turn, side_by_side)
    detail = {
        "student": str(cases.STUDENT),
        "teacher": str(cases.TEACHER),
        "engine": "hf, services of one thread each",
        "in_turn_s": in_turn["seconds"],
        "side_by_side_s": side_by_side["seconds"],
        "drawing_s": found.drawing_s,
        "rest_s": found.rest_s,
        "speedup": found.speedup,
        "best_speedup": found.best_speedup,
        "commit": commit(),
    }
    return Result("P8.overlap", "speedup of staleness 1, over the best of two groups", found.share, 0.8, "higher", detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each run, three at least; the first is not counted")
    parser.add_argument("--turns", type=int, default=TURNS, help="runs of each side")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--parts", nargs="+", choices=("step", "overlap"), default=("step", "overlap"))
    chosen = parser.parse_args()
    parts = Parts.of(ROOT / ".cache" / "bench-step", commit(), f"{chosen.steps}-steps-{chosen.threads}-threads")
    with tempfile.TemporaryDirectory() as folder:
        if "step" in chosen.parts:
            bench = Bench.at(Path(folder), chosen.steps, chosen.threads)
            add_results("step", step_results(turns_of(bench, parts, chosen.turns), chosen.threads))
        if "overlap" in chosen.parts:
            add_results("step", [overlap_result(Path(folder, "overlap"), chosen.steps, parts)])


if __name__ == "__main__":
    main()
