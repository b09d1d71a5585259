"""One training run against a running stack, and what its events say afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor.config import ClientSettings
from preceptor.learner import Control, Learner, Patiences, RunFolder, RunPlan, Watch
from preceptor.learner.connect import connected
from preceptor.recipes import compile_recipe, load_recipe
from preceptor.report import RunCurves

PATIENCE_S = 90.0
"""Without anything having moved: a demo on a laptop gives up earlier than a night's run."""


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What to run: a recipe, what differs in it, and how it is called in tables."""

    name: str
    label: str
    recipe: Path
    overrides: Sequence[str] = ()
    control: Control = "none"
    tone: str = "run"


def plan_of(run: DemoRun) -> RunPlan:
    """The run as a learner executes it."""
    recipe = load_recipe(run.recipe, run.overrides)
    return RunPlan.of(run.name, "local", compile_recipe(recipe), run.control)


async def train(run: DemoRun, settings: ClientSettings, runs: Path, watch: Watch) -> RunCurves:
    """Trains to the end; the curves of what happened."""
    folder = RunFolder.of(runs, run.name)
    async with connected(settings) as ports:
        summary = await Learner(plan_of(run), ports, folder, watch=watch, patiences=Patiences(deadline_s=PATIENCE_S)).run()
    return curves_of(run, events_of(folder.events), summary.seconds)


def events_of(path: Path) -> list[dict[str, Any]]:
    """Every event of a run, oldest first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def curves_of(run: DemoRun, events: Sequence[Mapping[str, Any]], took_s: float) -> RunCurves:
    """Accuracy and divergence by step. Where the teacher scored nothing, its tokens are those that it wrote."""
    steps = [event for event in events if event["event"] == "step"]
    asked = [event for event in events if event["event"] == "evaluation"]
    return RunCurves(
        run.label,
        [(event["step"], event["accuracy"]) for event in asked],
        [(event["step"], event["reverse_kl"]) for event in steps if event["reverse_kl"] is not None],
        run.tone,
        took_s,
        sum(event["rows_scored"] for event in steps) or sum(event["tokens_generated"] for event in steps),
    )


def answers_of(events: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The sample answers of the first and of the last evaluation."""
    asked = [event["samples"] for event in events if event["event"] == "evaluation"]
    return (asked[0], asked[-1]) if asked else ([], [])
