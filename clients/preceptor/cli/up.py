"""`preceptor up`: an embedded Valkey and the three services on this machine, kept alive until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from preceptor.cli.options import ConfigFile
from preceptor.cli.output import say
from preceptor.config import RolloutSettings, ServiceSettings, StudentSettings, TeacherSettings, load
from preceptor.errors import ConfigurationError
from preceptor.extras import require_extra
from preceptor.local.stack import Section, ServicePlan, Stack, build_stack
from preceptor.local.supervisor import Event, Supervisor
from preceptor.local.valkey import SECRET

SETTINGS: dict[Section, type[TeacherSettings | RolloutSettings | StudentSettings]] = {
    "teacher": TeacherSettings,
    "rollout": RolloutSettings,
    "student": StudentSettings,
}


def up(
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="NAME=FOLDER", help="The teacher's model folder.")] = None,
    student: Annotated[str | None, typer.Option("--student", metavar="NAME=FOLDER", help="The student's model folder.")] = None,
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Logs, queue and score cache.")] = Path("runs/up"),
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs.")] = Path("runs"),
    config: ConfigFile = None,
) -> None:
    """Start Valkey, teacher, rollout and student here; restart what dies; stop all on Ctrl-C."""
    require_extra("local")
    given: dict[Section, str | None] = {"teacher": teacher, "rollout": student, "student": student}
    services = [_plan(section, model, folder.resolve(), config) for section, model in given.items()]
    asyncio.run(_keep(build_stack(folder.resolve(), runs.resolve(), services)))


def _plan(section: Section, model: str | None, folder: Path, config: Path | None) -> ServicePlan:
    """Ports and model from the service's own settings; a flag given here wins."""
    settings = load(SETTINGS[section], flags={}, file=config, environ=os.environ).settings
    chosen = model or settings.model
    if chosen is None and not _has_teachers(settings):
        flag = "--teacher" if section == "teacher" else "--student"
        raise ConfigurationError(
            f"no model for the {section} service",
            field=flag,
            value="unset",
            hint=f"{flag} NAME=FOLDER, or {section}.model in a file",
        )
    flags = ("--config", str(config.resolve())) if config else ()
    return ServicePlan(section, section, chosen, settings.grpc_port, settings.rest_port, (*flags, *_cache(settings, folder)))


def _cache(settings: ServiceSettings, folder: Path) -> tuple[str, ...]:
    """A teacher that is not told where to keep its scores keeps them here, so that a run that is repeated finds them."""
    if not isinstance(settings, TeacherSettings) or settings.score_cache_folder is not None:
        return ()
    return ("--score-cache-folder", str(folder / "scores"))


def _has_teachers(settings: ServiceSettings) -> bool:
    return isinstance(settings, TeacherSettings) and settings.teachers_file is not None


async def _keep(stack: Stack) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    async with Supervisor(stack.stages, on_event=_tell) as supervisor:
        for name, doors in stack.doors.items():
            say(f"{name:8} gRPC {doors.grpc}   REST {doors.rest}")
        say(f"queue    {stack.queue.url}, password in {stack.queue.folder / SECRET}")
        say("up; Ctrl-C stops all")
        watching = asyncio.create_task(supervisor.watch())
        told = asyncio.create_task(stopping.wait())
        done, pending = await asyncio.wait({watching, told}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()


def _tell(event: Event) -> None:
    say(f"{event.name}: {event.kind} {event.detail}".rstrip())
