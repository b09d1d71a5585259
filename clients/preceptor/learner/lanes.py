"""Lanes side by side: each asks what it may do, does it, and wakes the others; none waits without another being at work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from preceptor.errors import Internal
from preceptor.learner.stages import Lane, Stage, Work
from preceptor.learner.waits import together

Ask = Callable[[Lane], Work]
Do = Callable[[Work], Awaitable[None]]


class Lanes:
    """Runs all lanes until each is done. `idle_s` counts how long each had nothing that it was allowed to do."""

    def __init__(self, ask: Ask, do: Do) -> None:
        self._ask, self._do = ask, do
        self._busy = set(Lane)
        self._waiting: dict[Lane, asyncio.Future[None]] = {}
        self.idle_s: dict[Lane, float] = dict.fromkeys(Lane, 0.0)

    async def run(self) -> None:
        """Returns when every lane is done; the first failure ends them all."""
        await together(*(self._lane(lane) for lane in Lane))

    async def _lane(self, lane: Lane) -> None:
        while (work := self._ask(lane)).stage is not Stage.DONE:
            if work.stage is Stage.WAIT:
                await self._wait(lane)
            else:
                await self._do(work)
                self._wake()
        self._busy.discard(lane)
        self._wake()

    async def _wait(self, lane: Lane) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[lane] = waiter
        if self._busy <= self._waiting.keys():
            raise Internal(f"nothing moves: {', '.join(sorted(self._busy))} wait for each other; please report it")
        began = time.monotonic()
        try:
            await waiter
        finally:
            self._waiting.pop(lane, None)
            self.idle_s[lane] += time.monotonic() - began

    def _wake(self) -> None:
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
