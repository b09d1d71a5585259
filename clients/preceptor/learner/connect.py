"""Opens the ports of a learner: services at the addresses of the settings, or the same services in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from preceptor.client.channel import Connection, Target
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.config.settings import ClientSettings
from preceptor.errors import ConfigurationError
from preceptor.learner.callers import ROLLOUT, STUDENT, GrpcCaller, RolloutCalls, StudentCalls
from preceptor.learner.grade_port import grading_as
from preceptor.learner.ports import Ports
from preceptor.queue.redis import RedisQueue


@asynccontextmanager
async def connected(settings: ClientSettings) -> AsyncGenerator[Ports]:
    """Ports to running services. Addresses are tried when they are used, so a service may still be starting."""
    if settings.redis_url is None:
        raise ConfigurationError(
            "a learner needs the queue that its services use",
            field="redis_url",
            value="unset",
            hint="set PRECEPTOR_REDIS_URL, or run everything in this process with --inline",
        )
    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    async with AsyncExitStack() as stack:

        async def caller(address: str, service: str) -> GrpcCaller:
            return GrpcCaller(await stack.enter_async_context(Connection(_target(settings, address))), service)

        queue = await RedisQueue.connect(settings.redis_url, password=password)
        stack.push_async_callback(queue.close)
        service = await stack.enter_async_context(TeacherDoors(_target(settings, settings.teacher), repeats=False))
        writers = {name: RolloutCalls(await caller(address, ROLLOUT)) for name, address in writers_of(settings).items()}
        yield Ports(
            RolloutCalls(await caller(settings.rollout, ROLLOUT)),
            StudentCalls(await caller(settings.student, STUDENT)),
            await stack.enter_async_context(grading_as(settings, service, queue)),
            queue,
            dict(writers),
        )


def writers_of(settings: ClientSettings) -> dict[str, str]:
    """Model name -> where it writes, from ``NAME=WHERE,NAME=WHERE``."""
    found: dict[str, str] = {}
    for part in filter(None, (settings.writers or "").split(",")):
        name, separator, where = part.strip().partition("=")
        if not (separator and name and where):
            raise ConfigurationError(
                f"writers: {part.strip()!r} names nobody", field="writers", value=part.strip(), limit="NAME=HOST:PORT"
            )
        found[name] = where
    return found


def _target(settings: ClientSettings, address: str) -> Target:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Target(address, key, settings.deadline_s, settings.max_message_bytes)
