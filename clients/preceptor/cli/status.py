"""`preceptor status [--watch]`: teachers, their engines, what every job has waiting, leased, unread and dead, and spent."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preceptor.cli.options import Json, parameter, with_flags
from preceptor.cli.output import print_json, print_table, say, shown
from preceptor.cli.reaching import quiet_logs, reached, target_of
from preceptor.client.agreement import replicas_behind
from preceptor.client.routes import addresses_in
from preceptor.client.teacher import AsyncTeacherClient
from preceptor.config import ClientSettings, load
from preceptor.errors import InvalidArgument
from preceptor.status_view.board import (
    BUDGETS,
    ENGINES,
    JOBS,
    NUMBERS,
    budget_cells,
    budget_table,
    engine_cells,
    engine_table,
    headlines,
    job_cells,
    job_table,
)
from preceptor.status_view.standing import Snapshot, budget_rows, engine_rows, job_rows
from preceptor.types import TeacherStatus

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

OPTIONS = (
    parameter("watch", Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")], False),
    parameter(
        "every_s",
        Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.2, help="Pause between two looks of --watch.")],
        2.0,
    ),
    parameter("as_json", Json, False),
)


def _status(config: Path | None, given: dict[str, Any]) -> None:
    own = {name: given.pop(name) for name in [one.name for one in OPTIONS]}
    if own["watch"] and own["as_json"]:
        raise InvalidArgument("--watch is for people", field="watch", value="--json", limit="--watch | --json")
    settings = load(ClientSettings, flags=given, file=config, environ=os.environ).settings
    quiet_logs(settings)
    asyncio.run(_watched(settings, own["every_s"]) if own["watch"] else _once(settings, as_json=own["as_json"]))


async def _once(settings: ClientSettings, *, as_json: bool) -> None:
    now = await _look(settings)
    if as_json:
        print_json(_plain(now))
        return
    if sys.stdout.isatty():
        from rich.console import Console  # only a terminal pays for rich

        console = Console()
        console.print(_board(now, None, console.width))
        return
    _print_lines(now, None)


def _print_lines(now: Snapshot, before: Snapshot | None) -> None:
    """For whoever reads a pipe: everything, in columns parted by tabs."""
    for line in headlines(now, before):
        say(line)
    print_table(ENGINES, engine_cells(now, before))
    if jobs := job_cells(now, before):
        print_table(JOBS, jobs)
    if budgets := budget_cells(now):
        print_table(BUDGETS, budgets)


async def _watched(settings: ClientSettings, every_s: float) -> None:
    """A live board on a terminal; elsewhere the same lines, look after look."""
    if not sys.stdout.isatty():
        async for now, before in _looks(settings, every_s):
            _print_lines(now, before)
        return
    from rich.live import Live  # only a terminal pays for rich

    with Live(screen=True, auto_refresh=False) as live:
        async for now, before in _looks(settings, every_s):
            live.update(_board(now, before, live.console.width), refresh=True)


async def _looks(settings: ClientSettings, every_s: float) -> AsyncIterator[tuple[Snapshot, Snapshot | None]]:
    before: Snapshot | None = None
    while True:
        now = await _look(settings)
        yield now, before
        before = now
        await asyncio.sleep(every_s)


async def _look(settings: ClientSettings) -> Snapshot:
    """Every replica behind the teachers' addresses, at once."""
    addresses = [one for address in addresses_in(settings.teacher) for one in await replicas_behind(address)]
    found = await asyncio.gather(*(_ask(settings, address) for address in addresses))
    return Snapshot(time.monotonic(), dict(zip(addresses, found, strict=True)))


async def _ask(settings: ClientSettings, address: str) -> TeacherStatus:
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        return await reached("teacher", address, lambda limit_s: client.status(deadline_s=limit_s))


def _board(now: Snapshot, before: Snapshot | None, width: int) -> Group:
    """All tables as they fit, and where the columns are that do not."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(line) for line in headlines(now, before)]
    for each in (engine_table(now, before, width), job_table(now, before, width), budget_table(now, width)):
        if each.rows:
            parts.append(shown(each, NUMBERS))
    return Group(*parts)


def _plain(now: Snapshot) -> dict[str, object]:
    return {
        "replicas": {
            address: {"state": str(status.state), "worker": status.worker, "reasons": dict(status.reasons)}
            for address, status in now.replicas.items()
        },
        "engines": [asdict(row) for row in engine_rows(now)],
        "jobs": [asdict(row) for row in job_rows(now)],
        "budgets": [{"address": address, **asdict(one)} for address, one in budget_rows(now)],
    }


status = with_flags(ClientSettings, _status, OPTIONS)
