"""All of the queue on one link to a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from preceptor.logs import get_logger
from preceptor.queue.memory import random_fence
from preceptor.queue.redis.failures import RedisFailures
from preceptor.queue.redis.link import Link, Patience
from preceptor.queue.redis.logs import RedisLogs
from preceptor.queue.redis.overview import RedisOverview
from preceptor.queue.redis.probe import ServerFacts, probe
from preceptor.queue.redis.results import RedisDeadLetters, RedisResults
from preceptor.queue.redis.tasks import RedisTasks
from preceptor.queue.redis.wakes import Wakes
from preceptor.queue.types import Clock, QueueBounds

log = get_logger(__name__)


class RedisQueue(RedisLogs, RedisTasks, RedisFailures, RedisResults, RedisDeadLetters, RedisOverview):
    """A `Queue` on a server that others share. Open it with `connect`; use it in the event loop that opened it.

    Without a `clock` every decision is by the server's time, so workers whose clocks differ agree on when a lease ends.
    """

    def __init__(
        self,
        link: Link,
        *,
        bounds: QueueBounds | None = None,
        clock: Clock | None = None,
        new_fence: Callable[[], bytes] = random_fence,
    ) -> None:
        super().__init__(link, Wakes(link.listening), bounds or QueueBounds(), new_fence)
        self.letter_clock = clock or time.time

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        password: str | None = None,
        bounds: QueueBounds | None = None,
        patience: Patience | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """A queue on a server that was asked whether it can hold one; `ConfigurationError` says what it lacks.

        The clock is for tests that move time by hand.
        """
        patience = patience or Patience()
        link = Link(url, password, patience, clock)
        try:
            facts = await probe(link)
        except BaseException:
            await link.close()
            raise
        for warning in facts.warnings():
            log.warning("queue server", server=facts.told, warning=warning)
        return cls(link, bounds=bounds, clock=clock)

    async def facts(self) -> ServerFacts:
        """What the server is now."""
        return await probe(self._link)

    async def close(self) -> None:
        """Waiting calls return; the connections are closed."""
        await self._wakes.close()
        await self._link.close()
