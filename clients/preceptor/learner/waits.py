"""Waiting with an end: nothing in a learner waits longer than its deadline without something having moved."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from preceptor.errors import DeadlineExceeded, PreceptorError, Unavailable

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Patience:
    """How long failures of one thing are borne: until nothing has worked for `deadline_s`."""

    def __init__(self, what: str, deadline_s: float) -> None:
        self._what, self._deadline_s = what, deadline_s
        self.moved()

    def moved(self) -> None:
        """Something worked: the clock starts again."""
        self._since_s = asyncio.get_running_loop().time()
        self._failures = 0

    @property
    def left_s(self) -> float:
        """Until this ends."""
        return max(0.0, self._since_s + self._deadline_s - asyncio.get_running_loop().time())

    async def wait(self, error: PreceptorError) -> None:
        """Pauses as the error advises, or longer each time; the end is one line that names what and why."""
        pause_s = error.retry_after_s or min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._failures)
        self._failures += 1
        if self.left_s < pause_s:
            raise DeadlineExceeded(
                f"{self._what} did not work for {self._deadline_s:g} s; the last attempt said: {error.message}",
                field=error.field,
                value=error.value,
                limit=f"{self._deadline_s:g} s",
                hint=error.hint or "see that the service runs, then start the run again with --resume: nothing is lost",
            ) from error
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing


def may_pass(error: PreceptorError) -> bool:
    """Whether the same call may succeed later."""
    return error.retryable


async def persist(
    attempt: Callable[[float], Awaitable[T]],
    what: str,
    deadline_s: float,
    passing: Callable[[PreceptorError], bool] = may_pass,
) -> T:
    """What the first attempt that succeeds returns. Each attempt is told how long it may take."""
    patience = Patience(what, deadline_s)
    while True:
        try:
            return await attempt(patience.left_s)
        except PreceptorError as error:
            if not passing(error):
                raise
            await patience.wait(error)


class Pulse:
    """Wakes whoever waits for work that others do, and tells when nothing has moved for too long."""

    def __init__(self) -> None:
        self._beats = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def beat(self) -> None:
        """Something moved."""
        self._beats += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def until(self, done: Callable[[], bool], deadline_s: float, stalled: Callable[[], PreceptorError]) -> None:
        """Returns when `done`; raises what `stalled` gives when nothing moved for `deadline_s`."""
        while not done():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                async with asyncio.timeout(deadline_s):
                    await waiter
            except TimeoutError:
                raise stalled() from None
            finally:
                self._waiting.discard(waiter)


async def beside(background: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; a failure of what runs beside it ends it at once and is what is raised."""
    helper, main = asyncio.create_task(background), asyncio.create_task(work)
    try:
        await asyncio.wait({helper, main}, return_when=asyncio.FIRST_COMPLETED)
        if not main.done():
            await helper  # raises why it ended
            raise Unavailable("what runs beside the learner ended by itself")
        return await main
    finally:
        for task in (helper, main):
            task.cancel()
        await asyncio.gather(helper, main, return_exceptions=True)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Returns when all have; the first failure cancels the others and is what is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
