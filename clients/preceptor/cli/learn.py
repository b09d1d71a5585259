"""`preceptor learn RECIPE.yaml [key=value ...]`: one training run, from its start or from where it stopped."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from preceptor.cli.options import parameter, with_flags
from preceptor.config import ClientSettings, RolloutSettings, load
from preceptor.errors import ConfigurationError
from preceptor.learner import Control, Learner, Patiences, Ports, RunFolder, RunPlan, Summary
from preceptor.learner.events import Watch
from preceptor.learner.run_folder import DEFAULT_ROOT
from preceptor.recipes import Recipe, compile_recipe, load_recipe

CONTROLS = {"none": "none", "permute-scores": "permute_scores"}

OPTIONS = (
    parameter("recipe", Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe.")]),
    parameter(
        "overrides",
        Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values that differ: schedule.steps=5")],
        None,
    ),
    parameter("run", Annotated[str | None, typer.Option("--run", metavar="NAME", help="Name of the run.")], None),
    parameter("resume", Annotated[bool, typer.Option("--resume", help="Go on where the run stopped, if it exists.")], False),
    parameter("inline", Annotated[bool, typer.Option("--inline", help="All services in this process, no Redis.")], False),
    parameter(
        "control",
        Annotated[
            str,
            typer.Option(
                "--control",
                metavar="|".join(CONTROLS),
                help="permute-scores: teacher rows dealt to wrong places, which must not teach.",
            ),
        ],
        "none",
    ),
    parameter(
        "tracker",
        Annotated[list[str] | None, typer.Option("--tracker", metavar="NAME", help="tensorboard | trackio | wandb, repeatable.")],
        None,
    ),
    parameter("estimate", Annotated[bool, typer.Option("--estimate", help="Say what it would take, and start nothing.")], False),
    parameter("like", Annotated[str | None, typer.Option("--like", metavar="RUN", help="An earlier run, for --estimate.")], None),
    parameter("runs", Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs.")], DEFAULT_ROOT),
)


def _learn(config: Path | None, given: dict[str, Any]) -> None:
    """Everything that can be wrong is said before anything is started."""
    names = {one.name for one in OPTIONS}
    flags = {name: value for name, value in given.items() if name not in names}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    recipe = load_recipe(given["recipe"], given["overrides"] or ())
    run = _run_name(given["run"], recipe, resume=given["resume"])
    plan = _plan(run, settings.tenant, recipe, given["control"], _engine(config) if given["inline"] else None)
    if given["like"] and not given["estimate"]:
        raise ConfigurationError("--like says something to --estimate alone", field="like", value=given["like"])
    if given["estimate"]:
        from preceptor.cli.plans import print_estimate

        print_estimate(plan, settings, config, given["runs"], given["like"])
        return
    folder = RunFolder.of(given["runs"], run)
    ports = _ports(settings, given["runs"], config, inline=given["inline"])
    from preceptor.logs import configure_logs

    configure_logs("learner", log_format=settings.log_format, level="warning" if given["inline"] else settings.log_level)
    from preceptor.cli.learn_progress import watching
    from preceptor.learner.trackers import Run, tracking
    from preceptor.report.run import write_report

    told = Run(run, folder.path, recipe.model_dump(mode="json"))
    try:
        with watching() as shown, tracking(given["tracker"] or (), told, shown) as watch:
            summary = asyncio.run(_run(ports, plan, folder, settings, watch, resume=given["resume"]))
    except KeyboardInterrupt:
        print(f"stopped; nothing is lost. Go on with: --run {run} --resume", file=sys.stderr)
        raise
    print(f"report: {write_report(folder)}", file=sys.stderr)
    if summary.ended:
        print(f"ended at step {summary.steps}: {summary.ended}", file=sys.stderr)
    if summary.is_alarm:
        raise typer.Exit(1)


async def _run(
    opened: AbstractAsyncContextManager[Ports],
    plan: RunPlan,
    folder: RunFolder,
    settings: ClientSettings,
    watch: Watch,
    *,
    resume: bool,
) -> Summary:
    async with opened as ports:
        learner = Learner(plan, ports, folder, resume, watch, patiences=Patiences(deadline_s=settings.deadline_s))
        return await learner.run()


def _engine(config: Path | None) -> str:
    """What will draw where the rollout service runs in this process; elsewhere the learner asks it."""
    return load(RolloutSettings, flags={}, file=config, environ=os.environ).settings.engine


def _plan(run: str, tenant: str, recipe: Recipe, control: str, rollout_engine: str | None) -> RunPlan:
    if control not in CONTROLS:
        raise ConfigurationError(
            f"there is no control {control!r}", field="control", value=control, limit=" | ".join(CONTROLS),
            hint="for SFT on the teacher's own tokens take a recipe whose writer is the teacher: recipes/tiny-sft.yaml",
        )  # fmt: skip
    compiled = compile_recipe(recipe, rollout_engine)
    for one in compiled.warnings:
        print(f"warning: {one.field}: {one.sentence} [{one.code}]; {one.hint}", file=sys.stderr)
    return RunPlan.of(run, tenant, compiled, cast(Control, CONTROLS[control]))


def _ports(settings: ClientSettings, runs: Path, config: Path | None, *, inline: bool) -> AbstractAsyncContextManager[Ports]:
    if inline:
        from preceptor.learner.inline import in_this_process

        return in_this_process(settings, runs, config)
    from preceptor.learner.connect import connected

    return connected(settings)


def _run_name(given: str | None, recipe: Recipe, *, resume: bool) -> str:
    if given is None and resume:
        raise ConfigurationError("which run shall go on?", field="run", value="unset", hint="name it: --run NAME --resume")
    return given or f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"


learn = with_flags(ClientSettings, _learn, OPTIONS)
