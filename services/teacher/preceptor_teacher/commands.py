"""`preceptor teachers render`: the operator's side of a teachers file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preceptor.cli.output import say
from preceptor_teacher.compose import render as rendered
from preceptor_teacher.compose import seen_from

File = Annotated[Path, typer.Argument(metavar="FILE", help="The teachers file.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there; unset: to stdout.")]
Project = Annotated[Path, typer.Option("--project", metavar="FOLDER", help="Where docker-compose.yml is.")]


def render(file: File, out: Out = None, project: Project = Path()) -> None:
    """Check a teachers file, and write one service for each replica of its teachers."""
    text = rendered(file, seen_from(file, project))
    if out is None:
        say(text.rstrip())
    else:
        out.write_text(text)
