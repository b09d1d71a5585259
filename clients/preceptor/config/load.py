"""`load`: flags over variables over file over defaults, validated once, with the source of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import SecretStr, ValidationError

from preceptor.config.knobs import CONFIG_ENV, Knob, knobs_of
from preceptor.config.settings import SETTINGS, Settings
from preceptor.config.sources import Given, Source, from_env, from_file, from_flags
from preceptor.errors import ConfigurationError
from preceptor.redaction import REDACTED, redact_text, remember_secret

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T", bound=Settings)
_LIMITS = ("le", "lt", "ge", "gt", "expected", "min_length", "max_length")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `config show`: secrets are already hidden."""

    label: str
    value: object
    source: Source
    knob: Knob


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Validated settings, and for every field where its value came from."""

    settings: T
    sources: Mapping[str, Source]

    def rows(self) -> list[Row]:
        """Every value as it may be shown."""
        return [
            Row(knob.label, _shown(knob, getattr(self.settings, name)), self.sources[name], knob)
            for name, knob in knobs_of(type(self.settings)).items()
        ]


def load(settings: type[T], *, flags: Mapping[str, object], file: Path | None, environ: Mapping[str, str]) -> Loaded[T]:
    """The settings of one process, or `ConfigurationError` naming the field, the value, the limit and the source.

    Without `file`, `PRECEPTOR_CONFIG` names it. A flag whose value is None was not given.
    """
    path = file or (Path(environ[CONFIG_ENV]) if environ.get(CONFIG_ENV) else None)
    given = from_file(settings, path) if path else {}
    given |= from_env(settings, environ)
    given |= from_flags(settings, flags)
    try:
        values = settings.model_validate({name: one.value for name, one in given.items()})
    except ValidationError as error:
        raise _configuration_error(settings, given, error) from None  # the original would show the refused secret
    _remember_secrets(values)
    sources = {name: given[name].source if name in given else Source("default") for name in settings.model_fields}
    return Loaded(values, sources)


def load_all(*, file: Path | None, environ: Mapping[str, str]) -> dict[str, Loaded[Settings]]:
    """Section -> settings for every process, as each would load them without flags."""
    return {section: load(settings, flags={}, file=file, environ=environ) for section, settings in SETTINGS.items()}


def _remember_secrets(values: Settings) -> None:
    for name in type(values).model_fields:
        value: object = getattr(values, name)
        if isinstance(value, SecretStr):
            remember_secret(value.get_secret_value())


def _shown(knob: Knob, value: object) -> object:
    """A value in plain JSON types, a secret as a mark that it is set."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return REDACTED if knob.secret else redact_text(str(value))


def _configuration_error(settings: type[Settings], given: Mapping[str, Given], error: ValidationError) -> ConfigurationError:
    """All findings in the message; field, value, limit and hint are those of the first."""
    found = error.errors(include_url=False)
    first = found[0]
    name = _field_of(first)
    knob = knobs_of(settings)[name]
    return ConfigurationError(
        "\n".join(_sentence(settings, given, one) for one in found),
        field=knob.label,
        value=_refused(knob, given),
        limit=next((first.get("ctx", {})[key] for key in _LIMITS if key in first.get("ctx", {})), ""),
        hint=f"set {knob.flag}, {knob.env_names[-1]} or the file key {knob.key}",
    )


def _sentence(settings: type[Settings], given: Mapping[str, Given], one: ErrorDetails) -> str:
    knob = knobs_of(settings)[_field_of(one)]
    source = given[knob.field].source if knob.field in given else Source("default")
    return f"{knob.label} = {_refused(knob, given)} ({source}): {one['msg'].removeprefix('Input ')}"


def _field_of(one: ErrorDetails) -> str:
    """The field of a finding; a rule between two fields names the one to change."""
    return str(one["loc"][0]) if one["loc"] else str(one.get("ctx", {})["field"])


def _refused(knob: Knob, given: Mapping[str, Given]) -> str:
    value = given[knob.field].value if knob.field in given else knob.default
    return str(_shown(knob, value))
