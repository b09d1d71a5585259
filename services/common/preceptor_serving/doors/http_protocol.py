"""Connections of the REST door that wait for nobody: one that sends no request, or sends it too slowly, is closed.

The server below bounds how many connections there are, and after that many it answers each request with 503, the probes of
an orchestrator among them. So a peer that opens connections and says nothing must not be able to hold them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0


class PunctualProtocol(H11Protocol):
    """Closes a connection on which no whole request head has come for `HEAD_S`."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """The time for the next head begins now, whatever bytes of it come: one byte ends uvicorn's own keep-alive timer."""
        self._await_head()
        super().on_response_complete()

    def _await_head(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(HEAD_S, self._close_unless_busy)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _close_unless_busy(self) -> None:
        """A request that is being answered is bounded by its own deadline."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
