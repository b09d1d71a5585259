"""Waiting until something changes on the server: look, sleep until it says that it changed, look again.

Scripts publish on a channel named like the key that changed: a job's `out`, a log's `ids`, and a teacher's `flows` when a
task became ready. One connection listens for everybody in this process. A message may get lost with a connection, so each
waiter also looks again by itself: rarely while the listener is well, often while it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

T = TypeVar("T")
LOOK_AGAIN_S = 1.0
FIRST_LOOK_S = 0.02  # without a listener, doubling up to the above
SILENCE_S = 5.0  # then the listener asks whether anybody is there
RECONNECT_S = 0.25
CANCEL_AGAIN_S = 0.5
KEPT_CHANNELS = 64  # channels nobody waits on right now; subscribing costs a round trip


@dataclass(slots=True)
class _Channel:
    waiters: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # the server confirmed the subscription

    def ring(self) -> None:
        for waiter in self.waiters:
            waiter.set()


class Wakes:
    """The waiting calls of one queue."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._channels: dict[str, _Channel] = {}
        self._listener: asyncio.Task[None] | None = None
        self._pubsub: PubSub | None = None
        self._closed = False

    async def until(self, name: str, look: Callable[[], Awaitable[T | None]], timeout_s: float) -> T | None:
        """What `look` finds now or after a change; None after `timeout_s` or when the queue is closed."""
        found = await look()
        if found is not None or timeout_s <= 0 or self._closed:
            return found
        bell = asyncio.Event()
        channel = await self._join(name, bell)
        try:
            return await self._look_until(channel, bell, look, timeout_s)
        finally:
            channel.waiters.discard(bell)
            await self._prune()

    async def close(self) -> None:
        """Waiting calls return."""
        self._closed = True
        self._ring_all()
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()  # again if need be: `asyncio.wait_for` inside redis may swallow one on Python 3.11
            await asyncio.wait({self._listener}, timeout=CANCEL_AGAIN_S)

    # ------------------------------------------------------------ the waiter's side

    async def _look_until(
        self, channel: _Channel, bell: asyncio.Event, look: Callable[[], Awaitable[T | None]], timeout_s: float
    ) -> T | None:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + timeout_s, FIRST_LOOK_S
        while not self._closed:
            bell.clear()
            found = await look()
            left_s = deadline - loop.time()
            if found is not None or left_s <= 0:
                return found
            pause = LOOK_AGAIN_S if channel.heard.is_set() else min(2 * pause, LOOK_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, left_s)):
                    await bell.wait()
        return None

    async def _join(self, name: str, bell: asyncio.Event) -> _Channel:
        known = name in self._channels
        channel = self._channels.pop(name, None) or _Channel()
        self._channels[name] = channel  # the last used last, for pruning
        channel.waiters.add(bell)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="queue wakes")
        elif not known and self._pubsub is not None:
            await self._say(self._pubsub.subscribe(name))
        return channel

    async def _prune(self) -> None:
        unused = [name for name, channel in self._channels.items() if not channel.waiters]
        for name in unused[: max(0, len(unused) - KEPT_CHANNELS)]:
            del self._channels[name]
            if self._pubsub is not None:
                await self._say(cast("Awaitable[object]", self._pubsub.unsubscribe(name)))  # pyright: ignore[reportUnknownMemberType]

    async def _say(self, command: Awaitable[object]) -> None:
        """A connection that breaks here is the listener's affair: it subscribes to everything when it is back."""
        with suppress(RedisError, OSError):
            await command

    # ------------------------------------------------------------ the listener

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)

    async def _listen_once(self) -> None:
        pubsub = self._client.pubsub()  # pyright: ignore[reportUnknownMemberType]
        try:
            asked: set[str] = set()
            while missing := self._channels.keys() - asked:  # more may join while the server is being asked
                await pubsub.subscribe(*missing)
                asked |= missing
            self._pubsub = pubsub
            while True:
                await self._hear(pubsub)
        finally:
            self._pubsub = None
            for channel in self._channels.values():
                channel.heard.clear()
            self._ring_all()
            await pubsub.aclose()  # pyright: ignore[reportUnknownMemberType]

    async def _hear(self, pubsub: PubSub) -> None:
        """One message, or proof that the connection still lives."""
        message = await _next_message(pubsub)
        if message is None:
            await self._say(pubsub.ping())  # pyright: ignore[reportUnknownMemberType]
            message = await _next_message(pubsub)
        if message is None:
            raise RedisConnectionError("the subscription went silent")
        channel = self._channels.get(_text(message["channel"]))
        if channel is not None and message["type"] in {"subscribe", "message"}:
            channel.heard.set()
            channel.ring()

    def _ring_all(self) -> None:
        for channel in self._channels.values():
            channel.ring()


async def _next_message(pubsub: PubSub) -> dict[str, Any] | None:
    return cast("dict[str, Any] | None", await pubsub.get_message(timeout=SILENCE_S))  # pyright: ignore[reportUnknownMemberType]


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else name or ""
