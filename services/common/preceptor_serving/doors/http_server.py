"""The HTTP server under the REST door: uvicorn, without its own signals, access log and headers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from preceptor.errors import Unavailable
from preceptor_serving.doors.addresses import listening_socket
from preceptor_serving.doors.http_protocol import PunctualProtocol

CUT_OFF_S = 1  # for replies that are still being written when the door closes; requests were finished before


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to the lifecycle."""
        yield


class HttpDoor:
    """An HTTP server; `port` is known once it is built. Connections beyond the bound get a 503."""

    def __init__(self, app: FastAPI, host: str, port: int, max_connections: int) -> None:
        self._socket = listening_socket(host, port, "rest_port")
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                http=PunctualProtocol,
                limit_concurrency=max_connections,
                timeout_graceful_shutdown=CUT_OFF_S,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once connections are taken; raises what keeps them from being taken."""
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http-door")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise Unavailable("the HTTP server ended while it was starting")
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Closes the listener and the connections."""
        self._server.should_exit = True
        if self._task is None:
            self._socket.close()
        else:
            await self._task
