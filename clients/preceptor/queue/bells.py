"""Waking whoever waits for something to change, inside one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Bells:
    """One bell for each key. Ringing wakes every waiter; nobody remembers a ring."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def ring(self, key: str) -> None:
        """Wake everybody who waits for this key."""
        for waiter in self._waiting.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def ring_all(self) -> None:
        """Wake everybody."""
        for key in list(self._waiting):
            self.ring(key)

    async def until(self, key: str, look: Callable[[], T | None], timeout_s: float) -> T | None:
        """What `look` finds, looked for now and after each ring; None after `timeout_s`."""
        found = look()
        if found is not None or timeout_s <= 0:
            return found
        try:
            async with asyncio.timeout(timeout_s):
                while found is None:
                    await self._next_ring(key)
                    found = look()
        except TimeoutError:
            return look()
        return found

    def _next_ring(self, key: str) -> Awaitable[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(waiter)
        waiter.add_done_callback(lambda done: self._waiting.get(key, set()).discard(done))
        return waiter
