"""Which environments a service offers: the operator's names, and what stands behind each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from preceptor.errors import ConfigurationError
from preceptor.limits import check_name
from preceptor.suggest import did_you_mean
from preceptor_rollout.environments.base import Environment

Factory = Callable[[Mapping[str, Any]], Environment]

KINDS: dict[str, str] = {
    "calculator": "preceptor_rollout.environments.calculator:create",
    "verifiers": "preceptor_rollout.environments.verifiers:create",
}
"""Kind -> "module:factory". The factory takes the operator's options and refuses unknown ones. An operator may also write
"module:factory" of his own as the kind; a request only ever names what he has set up."""

FIELD = "rollout.environments"


class EnvironmentSpec(BaseModel):
    """One entry of the setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


_SPECS = TypeAdapter(dict[str, EnvironmentSpec])


def environments_of(text: str) -> dict[str, Environment]:
    """The environments of the setting, made here and now: a mistake stops the service from starting."""
    try:
        specs = _SPECS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([FIELD, *map(str, first["loc"])])
        raise ConfigurationError(f"{where}: {first['msg']}", field=where, value=first["input"]) from error
    return {check_name(name, FIELD): _made(spec, f"{FIELD}.{name}") for name, spec in specs.items()}


def _made(spec: EnvironmentSpec, field: str) -> Environment:
    target = KINDS.get(spec.kind, spec.kind)
    module, colon, factory = target.partition(":")
    if not colon:
        hint = did_you_mean(spec.kind, KINDS)
        raise ConfigurationError(f"there is no kind {spec.kind!r}", field=f"{field}.kind", value=spec.kind, hint=hint)
    try:
        create: Factory = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{target} cannot be imported: {error}", field=f"{field}.kind", value=spec.kind) from error
    return create(spec.options)
