"""A TCP proxy that misbehaves on demand: cuts connections, goes silent, or loses the reply to a request that did arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536
LAST_TURNS = 100


class TcpProxy:
    """Listens on a free loopback port in front of one server."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self.cuts = 0
        self.delay_s: Callable[[], float] | None = None  # how long each piece of data waits before it goes on
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._doomed: list[bytes] = []

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    def cut_all(self) -> None:
        """Reset every connection."""
        for connection in list(self._connections):
            self.cuts += 1
            connection.reset()

    def silence_all(self) -> None:
        """From now on nothing passes on the connections that are open now: half-open, as after a lost route."""
        for connection in self._connections:
            connection.silent = True

    def lose_reply(self, marker: bytes, times: int = 1) -> None:
        """Cut the connection when the server answers a request that contains the marker: it was carried out, unheard."""
        self._doomed += [marker] * times

    @property
    def lost(self) -> bool:
        """Whether every reply that was to be lost has been."""
        return not self._doomed

    def reply_lost(self) -> None:
        """The reply to a doomed request was just thrown away."""

    def dooms(self, request: bytes) -> bool:
        for marker in self._doomed:
            if marker in request:
                self._doomed.remove(marker)
                self.cuts += 1
                return True
        return False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.reset()
        for _ in range(LAST_TURNS):  # each connection sees its reset and ends by itself
            if not self._connections:
                return
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, writer, there[1])
        self._connections.add(connection)
        try:
            await asyncio.gather(connection.carry(reader, there[1], asks=True), connection.carry(there[0], writer, asks=False))
        finally:
            connection.reset()
            self._connections.discard(connection)


class _Connection:
    def __init__(self, proxy: TcpProxy, *writers: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.writers = writers
        self.silent = False
        self.doomed = False

    def reset(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.silent:
                    continue
                if self.proxy.delay_s is not None:
                    await asyncio.sleep(self.proxy.delay_s())
                if self.doomed and not asks:
                    self.proxy.reply_lost()
                    break
                if asks and self.proxy.dooms(data):
                    self.doomed = True
                writer.write(data)
                await writer.drain()
        self.reset()
