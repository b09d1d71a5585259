"""The queue that a service is configured with."""

from __future__ import annotations

from preceptor.config.settings import Settings
from preceptor.queue import Queue


async def queue_of(settings: Settings) -> Queue | None:
    """A queue on the settings' Redis, opened in this event loop; None where none is configured."""
    if settings.redis_url is None:
        return None
    from preceptor.queue.redis import RedisQueue  # a service without a durable door needs no Redis client

    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    return await RedisQueue.connect(settings.redis_url, password=password)
