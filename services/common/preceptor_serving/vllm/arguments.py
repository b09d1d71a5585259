"""The names of vLLM's engine arguments: of the vLLM that is installed, or of the release that this code was written for."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import dataclasses
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

RELEASE = "0.32"
LIST = "engine_args.txt"


def installed_arguments() -> frozenset[str]:
    """Those of the vLLM that is installed; imports it, so it belongs into an engine's process."""
    from vllm import EngineArgs

    return frozenset(field.name for field in dataclasses.fields(EngineArgs))


@cache
def written_arguments() -> frozenset[str]:
    """Those of `RELEASE`, for a machine that checks a file and has no vLLM."""
    return frozenset(files("preceptor_serving.vllm").joinpath(LIST).read_text().split())


def is_another_release() -> bool:
    """Whether a vLLM is installed that may have other arguments than those that are written down."""
    try:
        return not version("vllm").startswith(f"{RELEASE}.")
    except PackageNotFoundError:
        return False
