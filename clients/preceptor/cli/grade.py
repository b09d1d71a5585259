"""`preceptor grade`: responses to a teacher that judges, verdicts back as lines or as a table."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import typer

from preceptor.cli.grade_options import OPTIONS, Asked
from preceptor.cli.options import with_flags
from preceptor.cli.queue_access import queue_of
from preceptor.cli.reaching import only_teacher, quiet_logs, reached, target_of
from preceptor.client.grading import QueueGrades
from preceptor.client.teacher import AsyncTeacherClient
from preceptor.config import ClientSettings, load
from preceptor.errors import ConfigurationError
from preceptor.grade_view.asking import Outcome, grade_all
from preceptor.grade_view.lines import failed, json_line
from preceptor.grade_view.records import Record, read_records
from preceptor.json_lines import lines_of
from preceptor.queue import GradeQueue


def _grade(config: Path | None, given: dict[str, Any]) -> None:
    flags = {name: value for name, value in given.items() if name not in {one.name for one in OPTIONS}}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    asked = Asked.of(given)
    quiet_logs(settings)
    records = _records(asked)
    outcomes: list[Outcome] = []
    as_table = sys.stdout.isatty() and not asked.as_json
    with ExitStack() as stack:
        file = stack.enter_context(_created(asked.out)) if asked.out else None
        if as_table:  # also of what was there when the rest failed, or was given up
            stack.callback(lambda: _show(outcomes, asked))

        def take(outcome: Outcome) -> None:
            outcomes.append(outcome)
            line = json.dumps(json_line(outcome), ensure_ascii=False)
            if file is not None:
                print(line, file=file, flush=True)
            elif not as_table:
                print(line, flush=True)

        asyncio.run(_ask(settings, asked, records, take))
    if failed(outcomes):
        raise typer.Exit(1)


async def _ask(settings: ClientSettings, asked: Asked, records: list[Record], take: Callable[[Outcome], None]) -> None:
    if settings.grade_through == "queue":
        await _ask_queue(settings, asked, records, take)
        return
    async with AsyncTeacherClient(target_of(settings, settings.teacher)) as teacher:
        infos = await reached("teacher", settings.teacher, lambda limit_s: teacher.describe(deadline_s=limit_s))
        grader = asked.options.grader
        name = asked.model or only_teacher(infos, lambda can: grader in can.graders, f"has the grader {grader}")
        await grade_all(teacher, name, records, asked.options, take)


async def _ask_queue(settings: ClientSettings, asked: Asked, records: list[Record], take: Callable[[Outcome], None]) -> None:
    """The queue does not say who grades, so the teacher has to be named."""
    if asked.model is None:
        raise ConfigurationError("which teacher?", field="model", value="unset", hint="--model NAME: a queue does not list them")
    async with queue_of(settings) as queue:
        grades = GradeQueue(queue, settings.tenant, deadline_s=settings.deadline_s)
        try:
            await grade_all(QueueGrades(grades), asked.model, records, asked.options, take)
        finally:
            await grades.close()


def _records(asked: Asked) -> list[Record]:
    if asked.single is not None:
        return [asked.single]
    with lines_of(asked.records or "", "from") as (lines, source):
        return read_records(lines, source)


def _created(path: str) -> TextIO:
    try:
        return Path(path).open("x", encoding="utf-8")
    except OSError as error:
        told = "is there already" if isinstance(error, FileExistsError) else f"cannot be written: {error.strerror}"
        raise ConfigurationError(f"{path} {told}", field="out", value=path, hint="name a file that is not there") from None


def _show(outcomes: list[Outcome], asked: Asked) -> None:
    from rich.console import Console  # only a terminal pays for rich

    from preceptor.grade_view.paint import show

    show(outcomes, asked.options.grader, Console(highlight=False))


grade = with_flags(ClientSettings, _grade, OPTIONS)
