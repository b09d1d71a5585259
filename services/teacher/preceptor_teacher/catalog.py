"""Which teachers a service has: names and aliases to model folders and engines, chosen by the operator alone.

teachers:
  tiny:
    folder: models/tiny          # relative to this file
    aliases: [default]
    dtype: f32                   # further keys are options of the engine
  big:
    hub: their/big@2c1a...       # instead of a folder: a model of a hub, with all 40 digits of its commit
    device: cuda:0
  judge:
    engine: api                  # grades text; see `preceptor_teacher.api.options`
    base_url: https://provider.example/v1
    model: their-name-of-it
    api_key_env: PROVIDER_KEY
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from preceptor.config.settings import TeacherSettings
from preceptor.errors import ConfigurationError
from preceptor.limits import check_name
from preceptor.suggest import did_you_mean
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engines.registry import ENGINES
from preceptor_serving.models.hub import folder_of, is_hub_id, parse_hub_id
from preceptor_teacher.api import read_api_options
from preceptor_teacher.judges import ENGINE as API_ENGINE
from preceptor_teacher.judges import JudgeSpec

DEFAULT_ENGINE = "hf"


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """One teacher: how its engine is made, and what else it is called."""

    engine: EngineSpec
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.engine.name


Entry = TeacherSpec | JudgeSpec
"""One entry of the file: a model that scores here, or a provider that judges elsewhere."""


def teachers_of(settings: TeacherSettings) -> tuple[Entry, ...]:
    """Those of the file, and the one of `model`; names and aliases are unique."""
    specs: tuple[Entry, ...] = read_teachers(settings.teachers_file) if settings.teachers_file else ()
    if settings.model is not None:
        specs = (*specs, _from_flag(settings.model))
    if not specs:
        raise ConfigurationError(
            "no teacher is configured",
            field="teachers_file",
            hint="give NAME=FOLDER as --model of the service, PRECEPTOR_TEACHER_MODEL, or teacher.model in a file; "
            "or a teachers.yaml with --teachers-file",
        )
    names = [name for spec in specs for name in (spec.name, *spec.aliases)]
    for name in names:
        check_name(name, "teachers")
        if names.count(name) > 1:
            raise ConfigurationError(f"two teachers are called {name!r}", field="teachers", value=name)
    return specs


def read_teachers(path: Path) -> tuple[Entry, ...]:
    """The teachers of a file."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", field="teachers_file", value=str(path)) from error
    entries = content.get("teachers") if isinstance(content, dict) and content.keys() == {"teachers"} else None
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{path} is no list of teachers", field="teachers_file", limit="one key: teachers, a mapping")
    return tuple(_from_entry(str(name), entry, path.parent) for name, entry in entries.items())


def _from_entry(name: str, entry: object, root: Path) -> Entry:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"teacher {name} has no settings", field=f"teachers.{name}", limit="a mapping")
    options: dict[str, Any] = {str(key): value for key, value in entry.items()}
    engine, aliases = options.pop("engine", DEFAULT_ENGINE), options.pop("aliases", ())
    if engine not in (API_ENGINE, *ENGINES):
        raise ConfigurationError(
            f"there is no engine {engine!r}",
            field=f"teachers.{name}.engine",
            value=engine,
            hint=did_you_mean(str(engine), (API_ENGINE, *ENGINES)),
        )
    if not isinstance(aliases, list | tuple):
        raise ConfigurationError("aliases are a list", field=f"teachers.{name}.aliases", value=aliases)
    others = tuple(str(alias) for alias in aliases)
    if engine == API_ENGINE:
        return JudgeSpec(name, read_api_options(name, options, root), others)
    if "folder" in options and "hub" in options:
        raise ConfigurationError(f"teacher {name} has a folder and a hub", field=f"teachers.{name}.hub", limit="one of them")
    if "folder" in options:
        options["folder"] = str(root / str(options["folder"]))
    elif "hub" in options:
        options["folder"] = _from_hub(str(options.pop("hub")), f"teachers.{name}.hub")[1]
    return TeacherSpec(EngineSpec(name, engine, {"name": name, **options}), others)


def _from_flag(text: str) -> TeacherSpec:
    """NAME=FOLDER, or NAME=OWNER/MODEL@COMMIT of a hub; without NAME= the folder or the model gives the name."""
    name, separator, where = text.rpartition("=")
    own, folder = _from_hub(where, "model") if is_hub_id(where) else (Path(where).resolve().name, str(Path(where)))
    name = name if separator else own
    return TeacherSpec(EngineSpec(name, DEFAULT_ENGINE, {"name": name, "folder": folder}))


def _from_hub(text: str, field: str) -> tuple[str, str]:
    """The model's own name, and its folder in the local cache."""
    model = parse_hub_id(text, field)
    return model.name, str(folder_of(model, field))
