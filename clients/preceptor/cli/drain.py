"""`preceptor teachers drain|undrain WHAT`: takes teachers out of work before their machine is, and back into it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from preceptor.cli.options import parameter, with_flags
from preceptor.cli.output import say
from preceptor.cli.reaching import quiet_logs, reached, target_of
from preceptor.client.agreement import replicas_behind
from preceptor.client.routes import addresses_in
from preceptor.client.teacher import AsyncTeacherClient
from preceptor.config import ClientSettings, load
from preceptor.errors import DeadlineExceeded, InvalidArgument, NotFound

LOOK_EVERY_S = 0.2
WHAT = parameter("what", Annotated[str, typer.Argument(metavar="NAME|ADDRESS", help="A teacher, or all of one service.")])
WAIT = parameter(
    "within_s", Annotated[float, typer.Option("--within-s", min=0, help="How long it may take to finish what is there.")], 600.0
)
STOP = parameter(
    "stop",
    Annotated[bool, typer.Option("--exit", help="Then end the service; only with an ADDRESS. Unset: it stays drained.")],
    False,
)


def _drain(config: Path | None, given: dict[str, Any]) -> None:
    settings, where = asyncio.run(_found(config, given))
    if given["stop"] and where[0][1]:
        raise InvalidArgument("a service is more than one teacher", field="exit", value=given["what"], limit="an ADDRESS")
    for address, name in where:
        asyncio.run(_drained(settings, address, name, given["within_s"], stop=given["stop"]))


def _undrain(config: Path | None, given: dict[str, Any]) -> None:
    settings, where = asyncio.run(_found(config, given))
    for address, name in where:
        asyncio.run(_undone(settings, address, name))


async def _found(config: Path | None, given: dict[str, Any]) -> tuple[ClientSettings, list[tuple[str, str]]]:
    """Addresses, and the teacher there; an address stands for all of its teachers."""
    flags = {name: value for name, value in given.items() if name not in ("what", "within_s", "stop")}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    quiet_logs(settings)
    what: str = given["what"]
    if ":" in what:
        return settings, [(what, "")]
    every = [one for address in addresses_in(settings.teacher) for one in await replicas_behind(address)]
    there = [address for address in every if await _has(settings, address, what)]
    if not there:
        raise NotFound(f"no service has a teacher {what!r}", field="what", value=what, limit=f"those of {settings.teacher}")
    return settings, [(address, what) for address in there]


async def _has(settings: ClientSettings, address: str, name: str) -> bool:
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        infos = await reached("teacher", address, lambda limit_s: client.describe(deadline_s=limit_s))
    return any(name in (info.model.name, *info.aliases) for info in infos)


async def _drained(settings: ClientSettings, address: str, name: str, within_s: float, *, stop: bool) -> None:
    end_s = time.monotonic() + within_s
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        while (left := await reached("teacher", address, lambda limit_s: client.drain(name, deadline_s=limit_s))) and (
            left.tasks or left.leases
        ):
            if time.monotonic() > end_s:
                found = f"{left.tasks} tasks, {left.leases} leases"
                hint = "it goes on without new work; ask again, or undrain"
                raise DeadlineExceeded(f"{address} still has work", field="within_s", value=found, limit=within_s, hint=hint)
            await asyncio.sleep(LOOK_EVERY_S)
        say(f"{address}: drained {', '.join(left.teachers)}")
        if stop:
            await client.drain(stop=True)
            say(f"{address}: stopping")


async def _undone(settings: ClientSettings, address: str, name: str) -> None:
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        left = await reached("teacher", address, lambda limit_s: client.drain(name, undo=True, deadline_s=limit_s))
    say(f"{address}: {'drained ' + ', '.join(left.teachers) if left.teachers else 'takes work'}")


drain = with_flags(ClientSettings, _drain, (WHAT, WAIT, STOP))
undrain = with_flags(ClientSettings, _undrain, (WHAT,))
