"""Connections of the REST door that wait for nobody: one that sends no request, or sends it too slowly, is closed.

The door bounds how many connections there are, and after that many it answers each request with 503, the probes of an
orchestrator among them. So a peer that opens connections and says nothing must not be able to hold them.

What is refused here, before there is a request for the application, has the codes and the shape of every other refusal.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from preceptor.errors import InvalidArgument, Unavailable
from preceptor_serving.doors.rest_errors import error_response

HEAD_S = 20.0
LINGER_S = 2.0  # in which the peer may read why it was refused
MAY_ANSWER = (h11.IDLE, h11.SEND_RESPONSE)


class PunctualProtocol(H11Protocol):
    """Closes a connection on which no whole request head has come for `HEAD_S`."""

    _patience: asyncio.TimerHandle | None = None
    _over = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application, self.app = self.app, self._bounded
        self._most, self.limit_concurrency = self.limit_concurrency, None

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, while there are no more connections and requests than the bound."""
        if self._most is None or (len(self.connections) < self._most and len(self.tasks) <= self._most):
            await self._application(scope, receive, send)
            return
        busy = Unavailable(
            "the service has as many connections as it takes",
            field="connections",
            value=len(self.connections),
            limit=f"< {self._most}",
            hint="close connections that are not used",
        )
        await error_response(busy)(scope, receive, send)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP/1.1; a reply that has begun cannot be taken back, and its connection is closed."""
        error = InvalidArgument("the bytes are no request", field="request", value="no HTTP/1.1", limit="HTTP/1.1")
        if self.conn.our_state in MAY_ANSWER:
            said = error_response(error, {"Connection": "close"})
            head = h11.Response(status_code=said.status_code, headers=said.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(said.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._end()

    def _end(self) -> None:
        """Closes a connection on which more may still come: at once that would be a reset, which can overtake the reply."""
        self._over = True
        self.transport.write_eof()
        self._stop_waiting()
        self._patience = self.loop.call_later(LINGER_S, self.transport.close)

    def data_received(self, data: bytes) -> None:
        if not self._over:
            super().data_received(data)

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
