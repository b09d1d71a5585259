"""`preceptor score`: a response token by token, coloured by what the teacher thinks of it or by where the two disagree."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preceptor.cli.options import with_flags
from preceptor.cli.reaching import only_teacher, quiet_logs, reached, target_of
from preceptor.cli.score_options import OPTIONS, Asked, own_names
from preceptor.client.rollout import AsyncRolloutClient
from preceptor.client.teacher import AsyncTeacherClient
from preceptor.config import ClientSettings, load
from preceptor.errors import InvalidArgument
from preceptor.json_lines import lines_of
from preceptor.score_view.asking import Look, Scoring, draw, encode, look_at, render_prompt
from preceptor.score_view.lines import COLUMNS, cells, json_rows
from preceptor.score_view.subject import Subject, read_records


def _score(config: Path | None, given: dict[str, Any]) -> None:
    flags = {name: value for name, value in given.items() if name not in own_names()}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    asked = Asked.of(given)
    quiet_logs(settings)
    looks = asyncio.run(_looks(settings, asked))
    if asked.as_json:
        for row in json_rows(looks):
            print(json.dumps(row, ensure_ascii=False))
        return
    _show(looks, asked)


def _show(looks: Sequence[Look], asked: Asked) -> None:
    """Colours on a terminal; elsewhere tab-separated lines, so that `cut` and `awk` work."""
    from rich.console import Console  # after the mistakes: they need no rich

    from preceptor.score_view.paint import show

    console = Console(highlight=False)
    if console.is_terminal:
        show(looks, asked.by, rows=asked.rows or asked.top > 0, console=console)
        return
    for line in (COLUMNS, *cells(looks)):
        print("\t".join(line))


async def _looks(settings: ClientSettings, asked: Asked) -> list[Look]:
    async with (
        AsyncRolloutClient(target_of(settings, settings.rollout)) as rollout,
        AsyncTeacherClient(target_of(settings, settings.teacher)) as teacher,
    ):
        await reached("rollout", settings.rollout, lambda limit_s: rollout.describe(deadline_s=limit_s))
        infos = await reached("teacher", settings.teacher, lambda limit_s: teacher.describe(deadline_s=limit_s))
        name = asked.model or only_teacher(infos, lambda can: can.sampled, "scores tokens")
        subjects = await _subjects(rollout, asked)
        if asked.by == "disagreement":
            _check_student_known(subjects)
        return await look_at(rollout, teacher, subjects, Scoring(name, asked.top, asked.temperature or 1.0))


async def _subjects(rollout: AsyncRolloutClient, asked: Asked) -> list[Subject]:
    if asked.records is not None:
        return _read(asked.records)
    prompt = await render_prompt(rollout, asked.prompt or "", raw=asked.raw)
    if asked.response is not None:
        return [await encode(rollout, prompt, asked.response)]
    return [await draw(rollout, prompt, asked.drawing)]


def _check_student_known(subjects: Sequence[Subject]) -> None:
    for one in subjects:
        if one.student is None:
            raise InvalidArgument(
                f"{one.source}: nothing says what the student thought of these tokens",
                field="logprob_policy",
                value="nothing",
                limit="one value a token",
            )


def _read(name: str) -> list[Subject]:
    with lines_of(name, "from") as (lines, source):
        return read_records(lines, source)


score = with_flags(ClientSettings, _score, OPTIONS)
