"""The queue as an operator reaches it from the command line: by the settings, for the length of one command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
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
    if settings.redis_url is None:
        raise ConfigurationError(
            "which queue?", field="redis_url", value="unset", hint="set PRECEPTOR_REDIS_URL or give --redis-url"
        )
    return asyncio.run(_acted(settings, settings.redis_url, act))


async def _acted(settings: Settings, url: str, act: Callable[[RedisQueue], Awaitable[T]]) -> T:
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    queue = await RedisQueue.connect(url, password=password, patience=PATIENCE)
    try:
        return await act(queue)
    finally:
        await queue.close()
