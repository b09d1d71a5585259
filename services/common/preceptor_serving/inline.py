"""A service without doors: its own handlers, called in this process through the same frame as every other request.

    def inline(settings, queue):                     # in a service's app.py
        return calling(TeacherService(place_engine=in_this_process, queue=queue), settings)

What a caller sees is `preceptor.learner.callers.Caller`: admission, deadlines, limits and named errors are those of a door.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from google.protobuf.message import Message

from preceptor import limits
from preceptor.config.settings import ServiceSettings
from preceptor.logs import get_logger
from preceptor_serving.auth.gate import OpenGate
from preceptor_serving.frame.call import Arrival, Door
from preceptor_serving.frame.frame import Frame, FrameLimits
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.metrics import Meters
from preceptor_serving.service import Rpc, Service, ServiceContext

M = TypeVar("M", bound=Message)
log = get_logger("preceptor.lifecycle")


class InlineCaller:
    """Calls of one started service."""

    def __init__(self, service: Service, frame: Frame) -> None:
        self._frame = frame
        self._rpcs: dict[str, Rpc] = {name: rpc for one in service.grpc_services() for name, rpc in one.rpcs.items()}

    async def call(self, method: str, request: Message, reply: type[M], *, deadline_s: float) -> M:
        """The reply of a plain call."""
        limits.check(request)
        return await self._answered(method, request, deadline_s)

    async def feed(self, method: str, messages: Sequence[Message], reply: type[M], *, deadline_s: float) -> M:
        """The reply of a call that takes a stream."""
        return await self._answered(method, _each(messages), deadline_s)

    async def stream(self, method: str, request: Message, reply: type[M], *, deadline_s: float) -> AsyncGenerator[M]:
        """The replies as they come."""
        limits.check(request)
        rpc = self._rpcs[method]
        with self._frame.admit(_arrival(method, deadline_s), rpc.scope) as call:
            async with call.bound(), aclosing(rpc.handler(request, call)) as replies:
                async for one in replies:
                    yield one

    async def _answered(self, method: str, request: Any, deadline_s: float) -> Any:
        rpc = self._rpcs[method]
        with self._frame.admit(_arrival(method, deadline_s), rpc.scope) as call:
            async with call.bound():
                return await rpc.handler(request, call)


@asynccontextmanager
async def calling(service: Service, settings: ServiceSettings) -> AsyncGenerator[InlineCaller]:
    """A started service for the length of the block; a call that outlasts its end by more than the grace is left behind."""
    lifecycle, meters = Lifecycle(), Meters()
    frame = Frame(lifecycle, OpenGate(), meters, FrameLimits.of(settings))
    try:
        await service.start(ServiceContext(settings, lifecycle, meters))
        lifecycle.ready()
        yield InlineCaller(service, frame)
    finally:
        lifecycle.draining("the run around it ended")
        await _finish(frame, settings.drain_grace_s)
        await service.stop()
        lifecycle.stopped()


async def _finish(frame: Frame, grace_s: float) -> None:
    try:
        async with asyncio.timeout(grace_s):
            await frame.idle()
    except TimeoutError:
        log.error("requests_left_behind", in_flight=frame.in_flight, grace_s=grace_s)


def _arrival(method: str, deadline_s: float) -> Arrival:
    return Arrival(Door.INLINE, method, {}, timeout_s=deadline_s)


async def _each(messages: Sequence[Message]) -> AsyncIterator[Message]:
    for message in messages:
        limits.check(message)
        yield message
