"""Several jobs with different recipes share one teacher, and each ends where its solo run did.

With engines that have a deterministic mode it has the same weights, bit for bit; else its accuracy differs by chance alone.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preceptor.demo.engines import Engine, rollout_plan, teacher_plan
from preceptor.demo.pair import Pair
from preceptor.demo.runs import DemoRun, events_of, train
from preceptor.errors import NotFound
from preceptor.learner import RunFolder
from preceptor.local.stack import ServicePlan, Stack, build_stack
from preceptor.report import Criterion, RunCurves

RECIPES = ("reverse-kl", "k1", "forward-kl")
STEPS = 8
EXACT_PROMPTS, CHANCE_PROMPTS = 64, 256  # of an evaluation
STANDARD_ERRORS = 2.0
PROMPTS, SAMPLES = 8, 4
TONES = ("run", "second", "control")
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Share:
    """What one job got of the teacher, and of the clock."""

    rows: int
    waited_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SharedJob:
    """One recipe alone and beside the others."""

    recipe: str
    curves: RunCurves
    solo: Share
    shared: Share
    solo_sha256: str
    shared_sha256: str
    solo_accuracy: float

    @property
    def equal(self) -> bool:
        return self.solo_sha256 == self.shared_sha256

    @property
    def apart(self) -> float:
        """How far the two accuracies lie apart, in standard errors of their difference."""
        alone, beside = self.solo_accuracy, self.curves.end
        error = math.sqrt((alone * (1 - alone) + beside * (1 - beside)) / CHANCE_PROMPTS)
        return 0.0 if alone == beside else abs(beside - alone) / error if error else math.inf


def shared_stack(pair: Pair, folder: Path, runs: Path, engine: Engine = "hf") -> Stack:
    """One service of each kind for all jobs: the rollout service runs each job's own weights, the student trains each run.

    The teacher remembers nothing: a job beside the others is to be scored again, not answered with what it was told alone.
    """
    services = (
        teacher_plan(engine, pair, folder, ("--score-cache-memory-bytes", "0")),
        ServicePlan("student", "student", pair.student_model),
        rollout_plan("rollout", engine, pair.student_model, ("--max-versions", str(2 * len(RECIPES)))),
    )
    return build_stack(folder, runs, services)


async def run_shared(stack: Stack, pair: Pair, runs: Path, steps: int = STEPS, *, exact: bool = True) -> list[SharedJob]:
    """Each recipe alone, then all of them at once; `exact`: in deterministic mode."""
    solo = [await _run(stack, pair, runs, recipe, steps, "solo", exact) for recipe in RECIPES]
    shared = await asyncio.gather(*(_run(stack, pair, runs, recipe, steps, "shared", exact) for recipe in RECIPES))
    return [_job(runs, *both) for both in zip(RECIPES, solo, shared, strict=True)]


def criteria_of(jobs: Sequence[SharedJob], *, exact: bool = True) -> list[Criterion]:
    """Bit-equal weights for every job, or an accuracy within two standard errors."""
    if not exact:
        return [_by_chance_alone(job) for job in jobs]
    return [
        Criterion(
            f"{job.recipe}: weights beside the others = weights alone", job.shared_sha256[:12], job.solo_sha256[:12], job.equal
        )
        for job in jobs
    ]


def _by_chance_alone(job: SharedJob) -> Criterion:
    return Criterion(
        f"{job.recipe}: accuracy beside the others - alone ({job.curves.end:.1%} - {job.solo_accuracy:.1%})",
        f"{job.apart:.1f} standard errors",
        f"<= {STANDARD_ERRORS:g}",
        job.apart <= STANDARD_ERRORS,
    )


SHARING_HEADER = (
    "job",
    "rows scored alone",
    "beside others",
    "share of rows",
    "waited alone",
    "beside others",
    "run alone",
    "beside others",
)


def sharing_rows(jobs: Sequence[SharedJob]) -> list[tuple[str, ...]]:
    """How the teacher's time was shared, a row for each job."""
    all_rows = sum(job.shared.rows for job in jobs) or math.nan
    return [
        (
            job.recipe,
            f"{job.solo.rows:,}",
            f"{job.shared.rows:,}",
            f"{job.shared.rows / all_rows:.0%}",
            *(f"{seconds:.1f} s" for seconds in (job.solo.waited_s, job.shared.waited_s, job.solo.seconds, job.shared.seconds)),
        )
        for job in jobs
    ]


async def _run(stack: Stack, pair: Pair, runs: Path, recipe: str, steps: int, kind: str, exact: bool) -> RunCurves:
    overrides = (
        f"schedule.steps={steps}",
        f"optimizer.learning_rate.steps={steps}",
        f"schedule.deterministic={str(exact).lower()}",
        f"schedule.prompts_per_step={PROMPTS}",
        f"sources.rollouts.samples_per_prompt={SAMPLES}",
        f"evaluation.prompts={EXACT_PROMPTS if exact else CHANCE_PROMPTS}",
        f"evaluation.every_steps={steps}",
    )
    tone = TONES[RECIPES.index(recipe)]
    run = DemoRun(f"{kind}-{recipe}", recipe, pair.recipe(recipe), overrides, tone=tone)
    return await train(run, stack.client(), runs, _quiet)


def _job(runs: Path, recipe: str, solo: RunCurves, shared: RunCurves) -> SharedJob:
    folders = [RunFolder.of(runs, f"{kind}-{recipe}") for kind in ("solo", "shared")]
    alone, beside = (_share(folder, curves) for folder, curves in zip(folders, (solo, shared), strict=True))
    solo_sha256, shared_sha256 = (newest_weights(folder.path) for folder in folders)
    return SharedJob(recipe, shared, alone, beside, solo_sha256, shared_sha256, solo.end)


def _share(folder: RunFolder, curves: RunCurves) -> Share:
    steps = [event for event in events_of(folder.events) if event["event"] == "step"]
    waited_s = sum(event["seconds"]["score_wait"] for event in steps)
    return Share(sum(event["rows_scored"] for event in steps), waited_s, curves.seconds)


def newest_weights(run: Path) -> str:
    """sha256 of the weights that a run published last, from the manifest that the student wrote."""
    manifests = sorted(run.glob("versions/step-*/manifest.json"), key=lambda path: int(path.parent.name.split("-")[1]))
    if not manifests:
        raise NotFound(f"{run} has published nothing", field="run", value=str(run))
    return str(json.loads(manifests[-1].read_text(encoding="utf-8"))["files"][WEIGHTS]["sha256"])


def _quiet(_: object) -> None:
    """Shown at the end, together."""
