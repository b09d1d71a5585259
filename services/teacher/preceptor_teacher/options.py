"""The keys that an entry of a teachers file may have, known without importing a model library."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean
from preceptor_serving.vllm.arguments import is_another_release, written_arguments

M = TypeVar("M", bound=BaseModel)
OPTIONS: dict[str, str] = {
    "echo": "preceptor_teacher.engines.echo.options:EchoOptions",
    "fake": "preceptor_serving.engines.fake.options:FakeOptions",
    "hf": "preceptor_teacher.engines.hf.options:HfOptions",
    "vllm": "preceptor_teacher.engines.vllm.options:VllmOptions",
}
"""Engine of a teacher -> "module:class" of its options. A new engine of teachers adds its line."""
EVERYWHERE = ("aliases", "engine", "gpus", "hub", "replicas")


def check_keys(name: str, engine: str, options: Mapping[str, object]) -> None:
    """Returns where the engine knows every option; the engine itself checks their values when it starts."""
    if engine not in OPTIONS:
        raise ConfigurationError(
            f"the {engine} engine is no teacher",
            field=f"teachers.{name}.engine",
            value=engine,
            limit=" | ".join([*OPTIONS, "api", "check", "discriminator"]),
        )
    known, refused = known_keys(engine), refused_keys(engine)
    for key in options:
        if key in refused:
            why = f"the {engine} engine's {key} cannot be set: {refused[key]}"
            raise ConfigurationError(why, field=f"teachers.{name}.{key}", value=options[key])
        if known and key not in known:
            raise ConfigurationError(
                f"the {engine} engine has no option {key}",
                field=f"teachers.{name}.{key}",
                value=options[key],
                hint=did_you_mean(key, [*sorted(known), *EVERYWHERE]),
            )


def checked(model: type[M], name: str, entry: Mapping[str, Any], root: Path, paths: Collection[str]) -> M:
    """The options of a teacher of that name. Relative `paths` lie beside the file they are named in; no value is shown."""
    values = {key: root / value if key in paths and isinstance(value, str) else value for key, value in entry.items()}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(("teachers", name, *(str(part) for part in first["loc"])))
        raise ConfigurationError(f"{field}: {first['msg']}", field=field) from None


def known_keys(engine: str) -> Collection[str]:
    """Every option of the engine; none where only the engine's own process can tell."""
    options = _options_of(engine)
    if dataclasses.is_dataclass(options):
        return {field.name for field in dataclasses.fields(options)}
    own = set(options.model_fields) - {"name", "engine_args"}
    if engine != "vllm":
        return own
    return set() if is_another_release() else own | written_arguments()


def refused_keys(engine: str) -> Mapping[str, str]:
    """Options that could be set and must not be, and why."""
    return getattr(_options_of(engine), "refused", {})


def _options_of(engine: str) -> Any:
    module, _, name = OPTIONS[engine].partition(":")
    return getattr(importlib.import_module(module), name)
