"""Which engines there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean
from preceptor_serving.engines.protocol import Engine

Factory = Callable[[Mapping[str, Any]], Engine]

ENGINES: dict[str, str] = {
    "echo": "preceptor_teacher.engines.echo:create",
    "fake": "preceptor_serving.engines.fake:create",
    "hf": "preceptor_teacher.engines.hf:create",
    "rollout-hf": "preceptor_rollout.engine:create",
    "rollout-vllm": "preceptor_rollout.vllm:create",
    "student": "preceptor_student.engine:create",
    "vllm": "preceptor_teacher.engines.vllm:create",
}
"""Engine name -> "module:factory". To add an engine, add its line: the module is imported in the engine's own process only,
so it may import what it likes. The factory takes the engine's options, refuses unknown ones, and returns a loaded `Engine`."""


def create_engine(name: str, options: Mapping[str, Any]) -> Engine:
    """The engine of that name, loaded; imports its module here and now."""
    module, _, factory = _target(name).partition(":")
    create: Factory = getattr(importlib.import_module(module), factory)
    return create(options)


def _target(name: str) -> str:
    if name not in ENGINES:
        raise ConfigurationError(f"there is no engine {name!r}", field="engine", value=name, hint=did_you_mean(name, ENGINES))
    return ENGINES[name]
