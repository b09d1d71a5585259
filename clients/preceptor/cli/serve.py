"""`preceptor serve teacher|rollout|student`: settings first, then the service's own code through its entry point."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import typer

from preceptor.cli.options import with_flags
from preceptor.config import RolloutSettings, ServiceSettings, StudentSettings, TeacherSettings, load
from preceptor.errors import Unsupported
from preceptor.extras import pip_command, require_extra

ENTRY_POINTS = "preceptor.services"


class RunService(Protocol):
    """What an entry point of `preceptor.services` names: serves until told to stop, drains, returns the exit code."""

    def __call__(self, settings: ServiceSettings, /) -> int: ...


def find_service(name: str) -> RunService:
    """The service of that name; `MissingExtra` where its parts are absent, `Unsupported` where this build has none."""
    require_extra(name)
    points = entry_points(group=ENTRY_POINTS, name=name)
    if not points:
        raise _absent(name)
    try:
        return next(iter(points)).load()
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("preceptor_"):
            raise
        raise _absent(name) from error


def _absent(name: str) -> Unsupported:
    hint = f"install a release that has it: {pip_command(name)} --upgrade"
    return Unsupported(f"this installation has no {name} service", field="service", value=name, hint=hint)


def _serve(settings: type[ServiceSettings], config: Path | None, flags: dict[str, object]) -> None:
    loaded = load(settings, flags=flags, file=config, environ=os.environ)
    run = find_service(settings.section)
    from preceptor.logs import configure_logs  # after the checks: structlog is not needed to say what is missing

    configure_logs(settings.section, log_format=loaded.settings.log_format, level=loaded.settings.log_level)
    raise typer.Exit(run(loaded.settings))


teacher = with_flags(TeacherSettings, lambda config, flags: _serve(TeacherSettings, config, flags))
rollout = with_flags(RolloutSettings, lambda config, flags: _serve(RolloutSettings, config, flags))
student = with_flags(StudentSettings, lambda config, flags: _serve(StudentSettings, config, flags))
