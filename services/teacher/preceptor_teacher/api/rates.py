"""Room at the provider: requests and tokens a minute, and requests under way, of all services that share a Redis.

They are the same reservations that bound tenants, under names that no tenant can have.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from preceptor.errors import Exhausted
from preceptor.queue.quotas import PROVIDER_REQUESTS, PROVIDER_TOKENS, QuotaLimits
from preceptor_serving.quotas import Desk
from preceptor_teacher.api.options import ApiOptions

LOOK_S, LONGEST_LOOK_S = 0.25, 0.5  # requests that took less than was reserved for them leave room before their minute ends


@dataclass(slots=True)
class Room:
    """What one request takes of the minute; set to the truth before the block ends."""

    tokens: int


class Rates:
    """The bounds of one provider, by the name of its teacher."""

    def __init__(self, teacher: str, options: ApiOptions, desk: Desk) -> None:
        self._teacher, self._desk = teacher, desk
        together = options.max_concurrency if desk.is_shared else 0  # within one process the client counts itself
        self._requests = QuotaLimits(options.requests_per_minute, together)
        self._tokens = QuotaLimits(options.tokens_per_minute)

    @asynccontextmanager
    async def room(self, most_tokens: int) -> AsyncGenerator[Room]:
        """Waits for room, and holds it for the length of the block; the caller bounds the time."""
        room = Room(most_tokens)
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._held(PROVIDER_REQUESTS, self._requests, Room(1), 1))
            await held.enter_async_context(self._held(PROVIDER_TOKENS, self._tokens, room, 0))
            yield room

    @asynccontextmanager
    async def _held(self, name: str, limits: QuotaLimits, room: Room, places: int) -> AsyncGenerator[None]:
        most = min(room.tokens, limits.tokens_per_minute or room.tokens)
        while True:
            effect = secrets.token_hex(16)
            try:
                hold = await self._desk.reserve(self._teacher, name, limits, tokens=most, places=places, effect=effect)
                break
            except Exhausted as full:
                await asyncio.sleep(min(full.retry_after_s or LOOK_S, LONGEST_LOOK_S))
        try:
            yield
        finally:
            await hold.settle(room.tokens)
