"""The same calls without the process: breakpoints work, and a crash takes everything with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from preceptor.errors import DeadlineExceeded, Unavailable
from preceptor_serving.engine_host.channel import only_reply
from preceptor_serving.engine_host.methods import methods_of
from preceptor_serving.engine_host.turns import find_method, named_failure
from preceptor_serving.engines.protocol import Engine, Method

T = TypeVar("T")


class InlineEngine:
    """An `EngineChannel` over an engine in a thread of this process, one turn at a time."""

    def __init__(self, create: Callable[[], Engine]) -> None:
        self._create = create
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._methods: Mapping[str, Method] | None = None
        self.engine: Engine | None = None

    async def start(self) -> None:
        self.engine = await self._in_thread(self._create)
        self._methods = methods_of(self.engine)

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        return only_reply([reply async for reply in self.stream(method, request, timeout_s=timeout_s)], method)

    async def stream(self, method: str, request: bytes, *, timeout_s: float) -> AsyncGenerator[bytes]:
        if self._methods is None:
            raise Unavailable("the engine is not running")
        deadline = asyncio.get_running_loop().time() + timeout_s
        replies = find_method(self._methods, method)(request)
        try:
            while (reply := await self._turn(replies, deadline)) is not None:
                yield reply
        finally:
            self._close_after_turn(replies)

    async def stop(self) -> None:
        engine, self.engine, self._methods = self.engine, None, None
        if engine is not None:
            await self._in_thread(engine.close)
        self._thread.shutdown(wait=False)

    async def _turn(self, replies: Iterator[bytes], deadline: float) -> bytes | None:
        """One turn in the thread; None at the end. A turn whose caller has left is finished all the same."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._in_thread(lambda: next(replies, None))
        except TimeoutError:
            raise DeadlineExceeded("the engine did not answer before the deadline") from None
        except Exception as error:
            raise named_failure(error) from error

    def _close_after_turn(self, replies: Iterator[bytes]) -> None:
        """Gives back what the stream holds, on the engine's thread, once the turn that may still be running is over."""
        close = getattr(replies, "close", None)
        if close is not None and self._methods is not None:
            self._thread.submit(close)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
