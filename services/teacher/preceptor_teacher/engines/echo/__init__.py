"""The `echo` engine: a scoring teacher whose model runs elsewhere, behind a server that gives log-probabilities of given ids.

options   which server, and in which words it is asked
dialects  ids -> a request, a reply -> log-probabilities of the given tokens, or that there are none
rows      those -> rows; what the server left out is missing
engine    the calls, and the proof at the start that the server scores what it is given
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preceptor_teacher.engines.echo.engine import EchoEngine

__all__ = ["create"]


def create(options: Mapping[str, Any]) -> EchoEngine:
    """The factory that the engine registry names."""
    from preceptor_teacher.engines.echo.engine import EchoEngine
    from preceptor_teacher.engines.echo.options import EchoOptions

    return EchoEngine(EchoOptions.from_mapping(options))
