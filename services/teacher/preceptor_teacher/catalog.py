"""Which teachers a service has: names and aliases to model folders and engines, chosen by the operator alone.

teachers:
  tiny:
    folder: models/tiny          # relative to this file
    aliases: [default]
    dtype: f32                   # further keys are options of the engine
  big:
    hub: their/big@2c1a...       # instead of a folder: a model of a hub, with all 40 digits of its commit
    engine: vllm
    tensor_parallel_size: 2
    gpus: [0, 1, 2, 3]           # two for each replica; see `placing`
    replicas: 2
  judge:
    engine: api                  # grades text; see `preceptor_teacher.api.options`
    base_url: https://provider.example/v1
    model: their-name-of-it
    api_key_env: PROVIDER_KEY
  critic:
    engine: discriminator        # grades text, and learns meanwhile; see `preceptor_teacher.discriminator.options`
    folder: models/small
    state_folder: critic
    writer: judge
  far:
    engine: echo                 # scores at another server; see `preceptor_teacher.engines.echo.options`
    folder: models/their-tokenizer
    base_url: http://10.0.0.5:8000/v1
    model: their-name-of-it
    max_sequence_tokens: 4095
    private_hosts: [10.0.0.5]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from preceptor_teacher.checks import ENGINE as CHECK_ENGINE
from preceptor_teacher.checks import CheckSpec
from preceptor_teacher.discriminator.options import read_discriminator_options
from preceptor_teacher.discriminator.served import DiscriminatorSpec
from preceptor_teacher.graders.protocol import DISCRIMINATOR
from preceptor_teacher.judges import ENGINE as API_ENGINE
from preceptor_teacher.judges import JudgeSpec
from preceptor_teacher.options import check_keys
from preceptor_teacher.placing import UNPLACED, Placement, check_gpus, take_placement

DEFAULT_ENGINE = "hf"
GRADING_ENGINES = (API_ENGINE, CHECK_ENGINE, DISCRIMINATOR)


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """One teacher: how its engine is made, and what else it is called."""

    engine: EngineSpec
    aliases: tuple[str, ...] = ()
    placement: Placement = UNPLACED

    @property
    def name(self) -> str:
        return self.engine.name


GradingEntry = JudgeSpec | CheckSpec | DiscriminatorSpec
Entry = TeacherSpec | GradingEntry
"""One entry of the file: a model that scores here, a provider that judges elsewhere, rules that check, a model that learns to."""


def teachers_of(settings: TeacherSettings) -> tuple[Entry, ...]:
    """Those of the file that this process is to serve, and the one of `model`; names and aliases are unique."""
    specs = _chosen(read_teachers(settings.teachers_file), settings) if settings.teachers_file else ()
    if settings.model is not None:
        specs = (*specs, _from_flag(settings.model))
    if not specs:
        raise ConfigurationError(
            "no teacher is configured",
            field="teachers_file",
            hint="give NAME=FOLDER as --model of the service, PRECEPTOR_TEACHER_MODEL, or teacher.model in a file; "
            "or a teachers.yaml with --teachers-file",
        )
    check_names(specs)
    return specs


def check_names(specs: Sequence[Entry]) -> None:
    """Returns where every name and alias is one, and stands for one teacher alone."""
    taken: set[str] = set()
    for spec in specs:
        for place, name in enumerate((spec.name, *spec.aliases)):
            field = f"teachers.{spec.name}.aliases" if place else f"teachers.{spec.name}"
            check_name(name, field)
            if name in taken:
                limit = "names and aliases that are each used once"
                raise ConfigurationError(f"two teachers are called {name!r}", field=field, value=name, limit=limit)
            taken.add(name)


def read_teachers(path: Path, *, root: Path | None = None) -> tuple[Entry, ...]:
    """The teachers of a file, after all checks that need no model.

    With a `root` they are those of another machine, where the file lies in that folder: models of a hub stay ids.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", field="teachers_file", value=str(path)) from error
    entries = content.get("teachers") if isinstance(content, dict) and content.keys() == {"teachers"} else None
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{path} is no list of teachers", field="teachers_file", limit="one key: teachers, a mapping")
    folder, here = root or path.parent, root is None
    specs = tuple(_from_entry(str(name), entry, folder, here=here) for name, entry in entries.items())
    check_names(specs)
    _check_writers(specs)
    check_gpus({spec.name: spec.placement for spec in specs if isinstance(spec, TeacherSpec)})
    return specs


def _check_writers(specs: Sequence[Entry]) -> None:
    """Whoever writes for a discriminator is a teacher behind an API, by its name or an alias."""
    writers = [name for spec in specs if isinstance(spec, JudgeSpec) for name in (spec.name, *spec.aliases)]
    for spec in specs:
        if isinstance(spec, DiscriminatorSpec) and spec.options.writer not in (None, *writers):
            raise ConfigurationError(
                f"the file has no teacher behind an API of the name {spec.options.writer!r}",
                field=f"teachers.{spec.name}.writer",
                value=spec.options.writer,
                hint=did_you_mean(str(spec.options.writer), writers),
            )


def _chosen(specs: Sequence[Entry], settings: TeacherSettings) -> tuple[Entry, ...]:
    """Those that `only` names, of the replica that this process is."""
    only = [name.strip() for name in settings.only.split(",")] if settings.only is not None else [spec.name for spec in specs]
    for name in only:
        if name not in {spec.name for spec in specs}:
            hint = did_you_mean(name, [spec.name for spec in specs])
            raise ConfigurationError(f"the file has no teacher {name!r}", field="only", value=name, hint=hint)
    wanted = [spec for spec in specs if spec.name in only]
    there = [spec for spec in wanted if settings.replica < _replicas(spec)]
    if not there:
        most = max(map(_replicas, wanted), default=1)
        raise ConfigurationError("no teacher has so many replicas", field="replica", value=settings.replica, limit=f"< {most}")
    return tuple(_placed(spec, settings) for spec in there)


def _replicas(spec: Entry) -> int:
    return spec.placement.replicas if isinstance(spec, TeacherSpec) else 1


def _placed(spec: Entry, settings: TeacherSettings) -> Entry:
    """With the GPUs of its replica, where the file says which those are."""
    if settings.gpus_from == "container" or not isinstance(spec, TeacherSpec):
        return spec
    return replace(spec, engine=replace(spec.engine, environ=spec.placement.environ_of(settings.replica)))


def _from_entry(name: str, entry: object, root: Path, *, here: bool) -> Entry:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"teacher {name} has no settings", field=f"teachers.{name}", limit="a mapping")
    options: dict[str, Any] = {str(key): value for key, value in entry.items()}
    engine, aliases = options.pop("engine", DEFAULT_ENGINE), options.pop("aliases", ())
    if engine not in (*GRADING_ENGINES, *ENGINES):
        raise ConfigurationError(
            f"there is no engine {engine!r}",
            field=f"teachers.{name}.engine",
            value=engine,
            hint=did_you_mean(str(engine), (*GRADING_ENGINES, *ENGINES)),
        )
    if not isinstance(aliases, list | tuple):
        raise ConfigurationError("aliases are a list", field=f"teachers.{name}.aliases", value=aliases)
    others = tuple(str(alias) for alias in aliases)
    if engine == API_ENGINE:
        return JudgeSpec(name, read_api_options(name, options, root), others)
    if engine == CHECK_ENGINE:
        return _checking(name, options, others)
    if engine == DISCRIMINATOR:
        return DiscriminatorSpec(name, read_discriminator_options(name, options, root), others)
    placement = take_placement(name, engine, options)
    check_keys(name, engine, {key: value for key, value in options.items() if key != "hub"})
    return TeacherSpec(EngineSpec(name, engine, {"name": name, **_located(name, options, root, here=here)}), others, placement)


def _located(name: str, options: dict[str, Any], root: Path, *, here: bool) -> dict[str, Any]:
    """The options with the folder of the model; a file of a key lies beside the file that names it."""
    if isinstance(options.get("api_key_file"), str):
        options = {**options, "api_key_file": str(root / options["api_key_file"])}
    if "folder" in options and "hub" in options:
        raise ConfigurationError(f"teacher {name} has a folder and a hub", field=f"teachers.{name}.hub", limit="one of them")
    if "folder" in options:
        return {**options, "folder": str(root / str(options["folder"]))}
    if "hub" in options:
        field, hub = f"teachers.{name}.hub", str(options["hub"])
        folder = _from_hub(hub, field)[1] if here else str(parse_hub_id(hub, field))
        return {**{key: value for key, value in options.items() if key != "hub"}, "folder": folder}
    return options


def _checking(name: str, options: Mapping[str, Any], aliases: tuple[str, ...]) -> CheckSpec:
    if options:
        field = f"teachers.{name}.{next(iter(options))}"
        raise ConfigurationError(f"a teacher that checks has no {next(iter(options))}", field=field, limit="engine, aliases")
    return CheckSpec(name, aliases)


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
