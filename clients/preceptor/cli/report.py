"""`preceptor report RUN`: one page about a run, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preceptor.cli.output import say
from preceptor.learner.run_folder import DEFAULT_ROOT, RunFolder
from preceptor.report.run import write_report


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its name.")],
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs.")] = DEFAULT_ROOT,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Unset: report.html in the run's folder.")] = None,
) -> None:
    """Write the page of a run: curves, receipts, spending, alarms, its recipe. It fetches nothing."""
    say(f"report: {write_report(RunFolder.of(runs, run), out)}")
