"""Our step with its services on a core each: drawing on one; scoring, training and the learner on the other."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from benchmarks.scoring.house import NO_SCORE_CACHE, running, teacher_plan
from benchmarks.step.ours import Measured, recipe, watched
from benchmarks.step.parts import Part
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts
from preceptor.learner.connect import connected
from preceptor.local.child import ChildSpec
from preceptor.local.stack import ServicePlan, Stack, build_stack

DRAWS = "rollout"
DRAWING, REST = 0, 1  # cores


@dataclass(frozen=True, slots=True)
class Overlap:
    """Median seconds of a step side by side, and of each group alone.

    Drawing alone is what it takes where nothing is trained meanwhile, the rest alone what its core is busy for: without staleness
    scoring goes on while rollouts are drawn too, so the length of such a step is not the sum of both groups.
    The first step of either run warms up. Side by side the last has nothing to draw for a step after it, so it is not counted.
    """

    side_by_side_s: float
    drawing_s: float
    rest_s: float

    @classmethod
    def of(cls, in_turn: Part, side_by_side: Part) -> Overlap:
        """From the steps of both runs, three of each at least."""
        return cls(median(side_by_side["seconds"][1:-1]), median(in_turn["drawing"][1:]), median(in_turn["busy"][1:]))

    @property
    def speedup(self) -> float:
        """Over one group after the other."""
        return (self.drawing_s + self.rest_s) / self.side_by_side_s

    @property
    def best_speedup(self) -> float:
        """What two groups gain that never wait for each other."""
        return (self.drawing_s + self.rest_s) / max(self.drawing_s, self.rest_s)

    @property
    def share(self) -> float:
        """The speedup that was reached, over that."""
        return self.speedup / self.best_speedup


async def steps_on_two_cores(root: Path, student: Path, teacher: Path, prompts: Path, steps: int, staleness: int) -> Measured:
    """One run; the services are started for it."""
    plans = [
        teacher_plan(root, {"folder": str(teacher)}, flags=NO_SCORE_CACHE),
        ServicePlan(DRAWS, "rollout", f"student={student}"),
        ServicePlan("student", "student", f"student={student}"),
    ]
    stack = _pinned(build_stack(root, root / "runs", plans))
    made = recipe(prompts, steps, staleness=staleness)
    plan = RunPlan("bench", "local", made, training_prompts(made.recipe))
    cores = os.sched_getaffinity(0)
    async with running(stack), connected(stack.client()) as ports:
        os.sched_setaffinity(0, {REST})
        try:
            return await watched(
                lambda watch: Learner(plan, ports, RunFolder.of(root / "learner", "bench"), watch=watch), partial(busy_s, REST)
            )
        finally:
            os.sched_setaffinity(0, cores)


def busy_s(core: int) -> float:
    """Seconds of the processor that the processes of this one's family have had so far that run on this core alone."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(one.cpu_times().user + one.cpu_times().system for one in family if one.cpu_affinity() == [core])


def _pinned(stack: Stack) -> Stack:
    """Drawing on core 0, everything else on core 1."""
    stages = tuple(tuple(_on(spec, DRAWING if spec.name == DRAWS else REST) for spec in stage) for stage in stack.stages)
    return replace(stack, stages=stages)


def _on(spec: ChildSpec, core: int) -> ChildSpec:
    return replace(spec, command=("taskset", "--cpu-list", str(core), *spec.command))
