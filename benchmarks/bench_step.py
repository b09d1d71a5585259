"""`python -m benchmarks.bench_step`: one step of distillation (generate, score, train) against TRL's, and its overlap (P8).

P8.step: 32 prompts, one rollout each, lengths log-uniform from 16 to 256 and forced to be the same on both sides; random pair,
f32, as many threads as the machine has cores. Ours is the whole system in one process: learner, journal, queue, three services,
and a published version that is loaded again after every step. TRL's `DistillationTrainer` 1.16.0 runs in an environment of its
own, `.venv-trl`, at the better of two settings: one batch of 32, or four of 8 accumulated. Its checkpointing and bf16, on
by default, are off: both are slower on a CPU. Reverse KL on both sides; TRL's over the whole vocabulary, its only way, ours on
both sides' 64 best ids, the drawn one and the tail.

P8.overlap: the same step with staleness 1 and 0, the rollout service on one core and everything else on another. The speedup,
over what two groups gain that never wait. Rollouts end where the student ends them here, after 90 tokens on average.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.loss.trl_parity import PINNED, environment
from benchmarks.results import Result, write_results
from benchmarks.step import cases
from benchmarks.step.ours import LEARNING_RATE, MICRO_BATCH_TOKENS, steps_inline
from benchmarks.step.overlap import overlap

STEPS, SKIPPED = 6, 1
ACCUMULATE = (1, 4)
MEAN_TOKENS = 90


Pair = tuple[Path, Path]


def trl_seconds(root: Path, pair: Pair, prompts: Path, lengths: list[list[int]], threads: int) -> dict[int, list[float]]:
    """Seconds of each step for each number of accumulated batches."""
    found: dict[int, list[float]] = {}
    for accumulate in ACCUMULATE:
        job, out = root / f"job-{accumulate}.json", root / f"out-{accumulate}.json"
        files = {"student": str(pair[0]), "teacher": str(pair[1]), "prompts": str(prompts)}
        numbers = {"longest": cases.LONGEST, "accumulate": accumulate, "threads": threads, "learning_rate": LEARNING_RATE}
        job.write_text(json.dumps({**files, **numbers, "lengths": lengths}))
        side = Path(__file__).with_name("step") / "trl_side.py"
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        subprocess.run([str(environment()), str(side), str(job), str(out)], check=True, env=env)
        told_back = json.loads(out.read_text())
        assert told_back["tokens"] == [sum(step) for step in lengths], "both sides draw the same number of tokens"
        found[accumulate] = told_back["seconds"]
    return found


def step_result(root: Path, steps: int, threads: int) -> Result:
    pair = cases.save_pair(root)
    lengths = cases.lengths_of(steps)
    prompts = cases.save_prompts(root / "prompts.jsonl", steps)
    ours = asyncio.run(steps_inline(*pair, prompts, root / "runs", lengths, threads))
    assert ours.tokens == [sum(step) for step in lengths], "both sides draw the same number of tokens"
    theirs = trl_seconds(root, pair, prompts, lengths, threads)
    medians = {accumulate: median(seconds[SKIPPED:]) for accumulate, seconds in theirs.items()}
    best = min(medians, key=lambda accumulate: medians[accumulate])
    mine = median(ours.seconds[SKIPPED:])
    detail = {
        "student": str(cases.STUDENT),
        "teacher": str(cases.TEACHER),
        "engine": "hf, in one process",
        "threads": threads,
        "steps": steps - SKIPPED,
        "tokens_a_step": [sum(step) for step in lengths],
        "ours_s": ours.seconds,
        "ours_stages_s": ours.stages,
        "micro_batch_tokens": MICRO_BATCH_TOKENS,
        "trl_s": {str(accumulate): seconds for accumulate, seconds in theirs.items()},
        "trl_best_accumulation": best,
        "trl": PINNED[0],
    }
    return Result("P8.step", "TRL's seconds a step over ours", medians[best] / mine, 1.3, "higher", detail)


def overlap_result(root: Path, steps: int) -> Result:
    root.mkdir()
    student, teacher = cases.save_pair(root)
    ending = cases.that_ends(student, root / "ending", MEAN_TOKENS)
    prompts = cases.save_prompts(root / "prompts.jsonl", steps)
    found = asyncio.run(overlap(root, ending, teacher, prompts, steps, SKIPPED))
    detail = {
        "student": str(cases.STUDENT),
        "teacher": str(cases.TEACHER),
        "engine": "hf, services of one thread each",
        "steps": steps - SKIPPED,
        "in_turn_s": found.in_turn_s,
        "side_by_side_s": found.side_by_side_s,
        "drawing_s": found.drawing_s,
        "rest_s": found.rest_s,
        "best_speedup": found.best_speedup,
    }
    return Result("P8.overlap", "speedup of staleness 1, over the best of two groups", found.share, 0.8, "higher", detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each run, the first of which is not counted")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [step_result(Path(folder), chosen.steps, chosen.threads)]
        write_results("step", rows)  # it stays if what follows does not come to its end
        rows.append(overlap_result(Path(folder, "overlap"), chosen.steps))
    write_results("step", rows)


if __name__ == "__main__":
    main()
