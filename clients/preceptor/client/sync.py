"""Sync calls of asynchronous clients: one background event loop, so that scripts and notebooks need no `await`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from preceptor.errors import InvalidArgument

Result = TypeVar("Result")
STOP_S = 5.0


class SyncLoop:
    """An event loop in a daemon thread that runs the coroutines of one sync client."""

    def __init__(self, async_twin: str) -> None:
        self._async_twin = async_twin
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="preceptor-client", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The coroutine's result. Inside a running loop a blocking call would stop everything else on it, so it is refused."""
        if _in_event_loop():
            raise InvalidArgument(
                "a blocking call inside a running event loop would stop the loop",
                field="client",
                hint=f"use {self._async_twin} and await the call",
            )
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    @property
    def closed(self) -> bool:
        return self._loop.is_closed()

    def close(self) -> None:
        """Stops the loop; asking again does nothing."""
        if self.closed:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        self._loop.close()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
