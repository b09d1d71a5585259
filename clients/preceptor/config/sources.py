"""The three places a setting can come from, each read into {field: Given} with unknown names refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preceptor.config.knobs import CONFIG_ENV, ENV_PREFIX, Knob, every_knob, knobs_of
from preceptor.config.settings import Settings
from preceptor.config.yaml_file import FileEntry, read_entries
from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean

# Kubernetes announces every Service of a namespace to every pod; one called "preceptor-..." lands under our prefix.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value came from: the kind, and the very flag, variable or file line."""

    kind: Literal["flag", "env", "file", "default"]
    where: str = ""

    def __str__(self) -> str:
        """ "env PRECEPTOR_TEACHER_HOST", or just "default"."""
        return f"{self.kind} {self.where}".rstrip()


@dataclass(frozen=True, slots=True)
class Given:
    """A value before validation, with its source."""

    value: object
    source: Source


def from_flags(settings: type[Settings], flags: Mapping[str, object]) -> dict[str, Given]:
    """The flags that were given (None means not given)."""
    by_name = {knob.name: knob for knob in knobs_of(settings).values()}
    given: dict[str, Given] = {}
    for name, value in flags.items():
        if name not in by_name:
            known = [knob.flag for knob in by_name.values()]
            flag = "--" + name.replace("_", "-")
            raise ConfigurationError(f"unknown flag {flag}", field=flag, value=value, hint=did_you_mean(flag, known))
        if value is not None:
            given[by_name[name].field] = _given(by_name[name], value, Source("flag", by_name[name].flag))
    return given


def from_env(settings: type[Settings], environ: Mapping[str, str]) -> dict[str, Given]:
    """The variables that are set; an empty one counts as not set, as `${NAME:-}` in a compose file intends."""
    refuse_unknown_env(environ)
    given: dict[str, Given] = {}
    for knob in knobs_of(settings).values():
        names = [name for name in knob.env_names if environ.get(name)]
        if len(names) > 1:
            raise ConfigurationError(f"{' and '.join(names)} are both set", field=knob.label, hint="unset one of them")
        for name in names:
            source = Source("env", name)
            plain = name == knob.env
            given[knob.field] = Given(environ[name], source) if plain else _given(knob, environ[name], source)
    return given


def from_file(settings: type[Settings], file: Path) -> dict[str, Given]:
    """The file's keys that concern these settings; keys of other processes are checked by name only."""
    entries = read_entries(file)
    refuse_unknown_keys(file, entries)
    return {
        knob.field: _given(knob, entries[knob.key].value, Source("file", f"{file}:{entries[knob.key].line}"))
        for knob in knobs_of(settings).values()
        if knob.key in entries
    }


def refuse_unknown_env(environ: Mapping[str, str]) -> None:
    """Nothing, or `ConfigurationError` for a `PRECEPTOR_...` variable that nothing reads."""
    known = {CONFIG_ENV, *(name for knob in every_knob().values() for name in knob.env_names)}
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and name not in known:
            link = _SERVICE_LINK.search(name) or re.match(r"(tcp|udp)://", value)
            kubernetes = "Kubernetes sets it for a Service; put enableServiceLinks: false into the pod spec"
            hint = kubernetes if link else did_you_mean(name, known)
            raise ConfigurationError(f"unknown environment variable {name}", field=name, hint=hint)


def refuse_unknown_keys(file: Path, entries: Mapping[str, FileEntry]) -> None:
    """Nothing, or `ConfigurationError` with the line of a key that nothing reads."""
    known = {knob.key for knob in every_knob().values()}
    for key, entry in entries.items():
        if key not in known:
            hint = _secret_hint(key, every_knob().values()) or did_you_mean(key, known)
            raise ConfigurationError(f"unknown key {key!r} at {file}:{entry.line}", field=key, hint=hint)


def _secret_hint(key: str, knobs: Iterable[Knob]) -> str:
    for knob in knobs:
        if knob.secret and key == knob.label:
            return f"a secret does not stand in the file: set {knob.env}, or name a file that holds it with {knob.key}"
    return ""


def _given(knob: Knob, value: object, source: Source) -> Given:
    """The value itself; for a secret, what the named file holds."""
    return Given(_read_secret(knob, value, source), source) if knob.secret else Given(value, source)


def _read_secret(knob: Knob, path: object, source: Source) -> str:
    try:
        text = Path(str(path)).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigurationError(
            f"{knob.label}: cannot read {path} ({source}): {reason}",
            field=knob.label,
            value=path,
            hint="name a readable text file that holds the secret alone",
        ) from error
    if not text:
        raise ConfigurationError(f"{knob.label}: {path} is empty ({source})", field=knob.label, value=path)
    return text
