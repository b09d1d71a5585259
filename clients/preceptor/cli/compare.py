"""`preceptor compare A.yaml B.yaml --seeds 3`: recipes held against each other, with controls, and a page."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from preceptor.cli.learn_progress import watching
from preceptor.cli.options import parameter, with_flags
from preceptor.cli.output import print_table, say
from preceptor.compare import HEADER, Comparison, Outcome, compare, rows_of
from preceptor.config import ClientSettings, load
from preceptor.learner import Patiences
from preceptor.logs import configure_logs
from preceptor.report.compare import CompareReport, render_compare

OPTIONS = (
    parameter(
        "recipes", Annotated[list[str], typer.Argument(metavar="RECIPE.yaml... [KEY=VALUE]...", help="Recipes, overrides.")]
    ),
    parameter("seeds", Annotated[int, typer.Option("--seeds", min=1, max=100, help="Runs of each, under seeds 0, 1, ...")], 3),
    parameter("controls", Annotated[bool, typer.Option("--controls", help="Each also with its scores permuted.")], False),
    parameter(
        "folder", Annotated[Path, typer.Option("--folder", metavar="DIR", help="Its runs and its page.")], Path("runs/compare")
    ),
)


def _compare(config: Path | None, given: dict[str, Any]) -> None:
    """Everything runs in this process. Stopped and called again, it goes on where it was."""
    names = {one.name for one in OPTIONS}
    flags = {name: value for name, value in given.items() if name not in names}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    asked = asked_for(given["recipes"], given["seeds"], given["controls"])
    folder: Path = given["folder"].resolve()
    configure_logs("learner", log_format=settings.log_format, level="warning")
    from preceptor.learner.inline import in_this_process

    page = folder / "report.html"

    def told(found: Sequence[Outcome], total: int) -> None:
        page.write_text(render_compare(CompareReport(found, total, asked)), encoding="utf-8")

    try:
        with watching() as watch:
            patiences = Patiences(deadline_s=settings.deadline_s)
            work = compare(asked, folder, lambda: in_this_process(settings, folder, config), watch, told, patiences)
            found = asyncio.run(work)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise
    print_table(HEADER, rows_of(found))
    say(f"report: {page}")
    if any(one.failure for one in found):
        raise typer.Exit(1)


def asked_for(words: Sequence[str], seeds: int, controls: bool) -> Comparison:
    """Words with a `=` are overrides of every recipe."""
    recipes = [Path(word) for word in words if "=" not in word]
    return Comparison(recipes, seeds, seeds if controls else 0, [word for word in words if "=" in word])


compare_recipes = with_flags(ClientSettings, _compare, OPTIONS)
