"""The queue as an operator reaches it from the command line: by the settings, for the length of one command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from preceptor.config import Settings, load
from preceptor.errors import ConfigurationError
from preceptor.queue.redis import Patience, RedisQueue

T = TypeVar("T")
PATIENCE = Patience(total_s=5.0)  # somebody is watching


def on_queue(config: Path | None, flags: dict[str, Any], act: Callable[[RedisQueue], Awaitable[T]]) -> T:
    """What `act` returns for the queue behind redis_url."""
    settings = load(Settings, flags=flags, file=config, environ=os.environ).settings
    return asyncio.run(_acted(settings, act))


@asynccontextmanager
async def queue_of(settings: Settings) -> AsyncGenerator[RedisQueue]:
    """The queue behind redis_url, for a command at a terminal."""
    if settings.redis_url is None:
        raise ConfigurationError(
            "which queue?", field="redis_url", value="unset", hint="set PRECEPTOR_REDIS_URL or give --redis-url"
        )
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    queue = await RedisQueue.connect(settings.redis_url, password=password, patience=PATIENCE)
    try:
        yield queue
    finally:
        await queue.close()


async def _acted(settings: Settings, act: Callable[[RedisQueue], Awaitable[T]]) -> T:
    async with queue_of(settings) as queue:
        return await act(queue)
