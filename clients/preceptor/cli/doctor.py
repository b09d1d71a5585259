"""`preceptor doctor`: what is installed, what is missing, what is taken, with the command or flag that mends it."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from preceptor.cli.checks import CHECKS, Finding
from preceptor.cli.options import ConfigFile, Json
from preceptor.cli.output import print_json, print_table
from preceptor.cli.plans import print_parts
from preceptor.config import RolloutSettings, load, load_all
from preceptor.learner import RunPlan
from preceptor.planning import planned_parts
from preceptor.recipes import compile_recipe, load_recipe
from preceptor.redaction import redact_text

PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="RECIPE.yaml", help="Say instead what fits here, before anything is loaded.")
]


def doctor(config: ConfigFile = None, as_json: Json = False, plan: PlanFile = None) -> None:
    """Check this machine: parts, ports, Redis, disk. Exits 1 if something that is configured does not work, or does not fit."""
    if plan is not None:
        _plan(plan, config)
        return
    configuration = load_all(file=config, environ=os.environ)
    findings = [_safe(finding) for check in CHECKS for finding in check(configuration)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [(one.status, one.check, one.detail, one.hint) for one in findings]
        print_table(("", "check", "found", "what to do"), rows)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _plan(path: Path, config: Path | None) -> None:
    recipe = load_recipe(path)
    rollout = load(RolloutSettings, flags={}, file=config, environ=os.environ).settings
    run = RunPlan.of("plan", "local", compile_recipe(recipe, rollout.engine))
    if any(one.verdict == "does not fit" for one in print_parts(planned_parts(run, config))):
        raise typer.Exit(1)


def _safe(finding: Finding) -> Finding:
    return replace(finding, detail=redact_text(finding.detail))
