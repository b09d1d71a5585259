"""`preceptor teachers`: what teacher services serve, how each teacher stands, and whether replicas agree."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from preceptor.cli.options import Json, parameter, with_flags
from preceptor.cli.output import print_json, print_table, shown
from preceptor.cli.reaching import quiet_logs, reached, target_of
from preceptor.client.agreement import Replica, Verdict, compare, interview, replicas_behind
from preceptor.client.routes import addresses_in
from preceptor.client.teacher import AsyncTeacherClient
from preceptor.config import ClientSettings, load
from preceptor.errors import PermissionDenied, Unavailable
from preceptor.status_view.served import SERVED, SERVED_NUMBERS, Seen, served_cells, served_table, served_values
from preceptor.types import ServiceState

CHECKED = ("", "replica", "teacher", "what", "found", "what to do")

OPTIONS = (
    parameter(
        "replicas",
        Annotated[
            list[str] | None,
            typer.Option("--check", metavar="ADDRESS", help="Compare this replica with those behind --teacher; repeat it."),
        ],
        None,
    ),
    parameter(
        "check_dns",
        Annotated[bool, typer.Option("--check-dns", help="Compare all replicas that the name of --teacher stands for.")],
        False,
    ),
    parameter("as_json", Json, False),
)


def _teachers(config: Path | None, given: dict[str, Any]) -> None:
    flags = {name: value for name, value in given.items() if name not in {one.name for one in OPTIONS}}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    quiet_logs(settings)
    if given["replicas"] or given["check_dns"]:
        verdicts = asyncio.run(_checked(settings, given["replicas"] or ()))
        _tell_verdicts(verdicts, as_json=given["as_json"])
        if any(one.status == "fail" for one in verdicts):
            raise typer.Exit(1)
        return
    seen = asyncio.run(_look_at_all(settings))
    if given["as_json"]:
        print_json([each for one in seen for each in served_values(one)])
    else:
        _tell_served(seen)


async def _look_at_all(settings: ClientSettings) -> list[Seen]:
    """Every replica behind the teachers' addresses, at once; an error where none of them answers."""
    addresses = [one for address in addresses_in(settings.teacher) for one in await replicas_behind(address)]
    found = await asyncio.gather(*(_look_if_it_answers(settings, address) for address in addresses))
    silent = [one for one in found if isinstance(one, Unavailable)]
    if len(silent) == len(found):
        raise silent[0]
    answers = zip(addresses, found, strict=True)
    return [Seen(at, silent=one.message) if isinstance(one, Unavailable) else one for at, one in answers]


async def _look_if_it_answers(settings: ClientSettings, address: str) -> Seen | Unavailable:
    try:
        return await _look(settings, address)
    except Unavailable as error:
        return error


async def _look(settings: ClientSettings, address: str) -> Seen:
    """What is served at one address. A service that still loads describes nothing yet, but its status names its teachers."""
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        try:
            status = await reached("teacher", address, lambda limit_s: client.status(deadline_s=limit_s))
        except PermissionDenied:  # a key that may score, and not ask how a service stands
            status = None
        if status is not None and status.state is ServiceState.LOADING:
            return Seen(address, status.teachers, status.standings)
        infos = await reached("teacher", address, lambda limit_s: client.describe(deadline_s=limit_s))
    return Seen(address, infos, status.standings if status else ())


def _tell_served(seen: Sequence[Seen]) -> None:
    """What there is room for on a terminal, everything elsewhere."""
    if not sys.stdout.isatty():
        print_table(SERVED, served_cells(seen))
        return
    from rich.console import Console  # only a terminal pays for rich

    console = Console()
    console.print(shown(served_table(seen, console.width), SERVED_NUMBERS))


async def _checked(settings: ClientSettings, others: Sequence[str]) -> list[Verdict]:
    """All replicas are asked at once, each by its own address."""
    addresses = dict.fromkeys((*await replicas_behind(settings.teacher), *others))
    return compare(await asyncio.gather(*(_interviewed(settings, address) for address in addresses)))


async def _interviewed(settings: ClientSettings, address: str) -> Replica:
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        infos = await reached("teacher", address, lambda limit_s: client.describe(deadline_s=limit_s))
        return await interview(address, client, infos)


def _tell_verdicts(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(one) for one in verdicts])
        return
    print_table(CHECKED, [(one.status, one.replica, one.teacher, one.what, one.found, one.hint) for one in verdicts])


teachers = with_flags(ClientSettings, _teachers, OPTIONS)
