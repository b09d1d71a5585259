"""Calls into an engine, wherever it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from preceptor.errors import Internal


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine to make, and with what options. The name is that of the served model, for logs and metrics.

    `environ` is set for the engine's process alone, before anything is imported there."""

    name: str
    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)


class EngineChannel(Protocol):
    """Generic on purpose: a method name and bytes go in, a stream of bytes comes out."""

    async def start(self) -> None:
        """Returns when the engine is loaded; raises what kept it from loading."""
        ...

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        """The one reply of a plain call. `EngineFailed` where the engine died under it: try again."""
        ...

    def stream(self, method: str, request: bytes, *, timeout_s: float) -> AsyncGenerator[bytes]:
        """The replies of a call as they come; closing the generator ends the call."""
        ...

    async def stop(self) -> None:
        """Finishes open calls, closes the engine, and is done within a bounded time."""
        ...


def only_reply(replies: list[bytes], method: str) -> bytes:
    """The reply of a plain call."""
    if len(replies) != 1:
        raise Internal(f"engine call {method!r} gave {len(replies)} replies instead of one")
    return replies[0]
