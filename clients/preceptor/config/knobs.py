"""`Knob`: the three names of one setting, derived from its field so that they cannot drift apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from preceptor.config.settings import SETTINGS, Settings

ENV_PREFIX = "PRECEPTOR_"
CONFIG_ENV = f"{ENV_PREFIX}CONFIG"


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting: its field, the section it lives in, and what `--help` says about it."""

    field: str
    section: str
    help: str
    default: object
    type_name: str
    secret: bool

    @property
    def name(self) -> str:
        """The field as it is written outside; a secret is given as the name of a file that holds it."""
        return f"{self.field}_file" if self.secret else self.field

    @property
    def label(self) -> str:
        """The full name of the setting itself: `teacher.grpc_port`, or `redis_url` where every process shares it."""
        return f"{self.section}.{self.field}" if self.section else self.field

    @property
    def key(self) -> str:
        """The key in the configuration file."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def flag(self) -> str:
        """The flag on the command line of the process that reads it."""
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.label.replace(".", "_").upper()

    @property
    def env_names(self) -> tuple[str, ...]:
        """All variables that set it: a secret is also read from the file that `..._FILE` names."""
        return (self.env, f"{self.env}_FILE") if self.secret else (self.env,)


@cache
def knobs_of(settings: type[Settings]) -> dict[str, Knob]:
    """Field -> knob, in the order in which the fields are written."""
    return {name: _knob(settings, name, info) for name, info in settings.model_fields.items()}


@cache
def every_knob() -> dict[str, Knob]:
    """Label -> knob over all sections; the shared ones once."""
    return {knob.label: knob for settings in SETTINGS.values() for knob in knobs_of(settings).values()}


def _knob(settings: type[Settings], name: str, info: FieldInfo) -> Knob:
    return Knob(
        field=name,
        section="" if name in Settings.model_fields else settings.section,
        help=info.description or _inherited_help(settings, name),
        default=info.default,
        type_name=_type_name(info.annotation),
        secret=info.annotation is SecretStr or SecretStr in get_args(info.annotation),
    )


def _inherited_help(settings: type[Settings], name: str) -> str:
    """The help of a field that a subclass only gives another default."""
    above = (base.model_fields.get(name) for base in settings.__mro__[1:] if issubclass(base, Settings))
    return next((info.description for info in above if info and info.description), "")


def _type_name(annotation: object) -> str:
    """A short word for `--help`: integer, number, path, text, or the choices themselves."""
    words = {"int": "INTEGER", "float": "NUMBER", "Path": "PATH", "str": "TEXT", "SecretStr": "PATH"}
    name = getattr(annotation, "__name__", "")
    if name in words:
        return words[name]
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if all(isinstance(part, str) for part in parts):
        return "|".join(parts)
    return _type_name(parts[0])
