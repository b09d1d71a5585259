"""Stops working for an HTTP client that has left. gRPC cancels its handlers by itself; ASGI only tells who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from preceptor.errors import Cancelled
from preceptor_serving.doors.rest_intake import SCOPE_KEY, Intake

T = TypeVar("T")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; `Cancelled` where the client leaves before it is there."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Cancelled("the client left")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})


async def _left(request: Request) -> None:
    """Returns when the client leaves. Until the handler has read the body, nobody else may ask for messages."""
    intake: Intake = request.scope[SCOPE_KEY]
    await intake.body_read.wait()
    while (await request.receive())["type"] != "http.disconnect":
        pass
