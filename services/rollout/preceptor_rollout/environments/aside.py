"""Calls of foreign code, each in a thread of its own: it may block, raise or never return, and the service goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

MOST_THREADS = 64
"""Calls that run at once. One that never returns keeps its place: once such calls have them all, others meet their deadlines."""


class Raised(Exception):
    """What the call raised is the cause."""


class Aside:
    """Runs calls beside the event loop, up to a deadline."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(MOST_THREADS)

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """What `work` returns, or `Raised`; `TimeoutError` after `timeout_s`, and the thread is left to itself."""
        async with asyncio.timeout(timeout_s):
            await self._room.acquire()
            loop = asyncio.get_running_loop()
            outcome: asyncio.Future[T | Raised] = loop.create_future()
            Thread(target=self._work, args=(work, outcome, loop), name="environment", daemon=True).start()
            result = await outcome
        if isinstance(result, Raised):
            raise result
        return result

    def _work(self, work: Callable[[], T], outcome: asyncio.Future[T | Raised], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread. A loop that has ended wants to hear nothing."""
        try:
            result = work()
        except BaseException as error:  # SystemExit too: it would end the thread without a word
            result = Raised()
            result.__cause__ = error
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._tell, outcome, result)

    def _tell(self, outcome: asyncio.Future[T | Raised], result: T | Raised) -> None:
        self._room.release()
        if not outcome.done():  # else nobody waits any more
            outcome.set_result(result)
