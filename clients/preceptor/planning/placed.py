"""Which models the services of this machine would run, read off their settings: no service is asked, no weight is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from preceptor.config import Loaded, RolloutSettings, Settings, StudentSettings, TeacherSettings, load
from preceptor.errors import ConfigurationError
from preceptor.learner import RunPlan
from preceptor.planning.memory import Part, Placed, parts_of
from preceptor.planning.shape import shape_of_folder
from preceptor.recipes.strict_yaml import read_yaml
from preceptor.types import Want

S = TypeVar("S", bound=Settings)


def planned_parts(plan: RunPlan, config: Path | None, environ: Mapping[str, str] = os.environ) -> list[Part]:
    """Memory of this run on the services as they are configured here; `ConfigurationError` names a model that is not."""
    student = _loaded(StudentSettings, config, environ)
    rollout = _loaded(RolloutSettings, config, environ)
    teacher = _loaded(TeacherSettings, config, environ)
    asked = list(_asked(plan, teacher))
    return parts_of(
        plan,
        _placed(student.model, "student"),
        _placed(rollout.model, "rollout", rollout.dtype, rollout.device),
        [placed for placed, _ in asked],
        list(dict.fromkeys(placed for placed, want in asked if want.hidden)),
        batch_tokens=rollout.batch_tokens,
        max_versions=rollout.max_versions,
    )


def _loaded(kind: type[S], config: Path | None, environ: Mapping[str, str]) -> S:
    found: Loaded[S] = load(kind, flags={}, file=config, environ=environ)
    return found.settings


def _placed(model: str | None, service: str, dtype: str = "f32", device: str = "cpu") -> Placed:
    if model is None:
        raise ConfigurationError(
            f"the {service} service has no model here",
            field=f"{service}.model",
            value="unset",
            hint=f"set PRECEPTOR_{service.upper()}_MODEL to NAME=FOLDER, or name a configuration file",
        )
    name, separator, folder = model.partition("=")
    return Placed(name, shape_of_folder(Path(folder if separator else model)), dtype, device)


def _asked(plan: RunPlan, settings: TeacherSettings) -> Iterator[tuple[Placed, Want]]:
    """The teachers with weights that the recipe asks for scores, and what it wants of each."""
    known = dict(_served(settings))
    for teacher in plan.compiled.teachers.values():
        if teacher.want is not None:
            if teacher.model not in known:
                raise ConfigurationError(
                    f"no teacher {teacher.model} with a folder is configured here",
                    field=f"teachers.{teacher.name}",
                    value=teacher.model,
                    limit=", ".join(sorted(known)) or "none",
                    hint="set PRECEPTOR_TEACHER_MODEL to NAME=FOLDER, or PRECEPTOR_TEACHER_TEACHERS_FILE",
                )
            yield known[teacher.model], teacher.want


def _served(settings: TeacherSettings) -> Iterator[tuple[str, Placed]]:
    if settings.model is not None:
        placed = _placed(settings.model, "teacher")
        yield placed.name, placed
    if settings.teachers_file is not None:
        raw: Any = read_yaml(settings.teachers_file)
        entries = cast(Mapping[str, Mapping[str, Any]], raw["teachers"])
        for name, entry in entries.items():
            if "folder" in entry:
                folder = settings.teachers_file.parent / str(entry["folder"])
                placed = Placed(name, shape_of_folder(folder), str(entry.get("dtype", "f32")), str(entry.get("device", "cpu")))
                aliases = cast(Sequence[str], entry.get("aliases", ()))
                yield from ((alias, placed) for alias in (name, *aliases))
