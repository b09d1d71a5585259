"""Equal requests that wait at the same time are one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from preceptor_teacher.api.messages import ChatReply


@dataclass(slots=True)
class _Shared:
    task: asyncio.Task[ChatReply]
    waiting: int = 0


class Together:
    """Work goes on as long as somebody waits for it; who came first bears the cost."""

    def __init__(self) -> None:
        self._running: dict[bytes, _Shared] = {}
        self.joined = 0

    async def run(self, key: bytes, work: Callable[[], Coroutine[Any, Any, ChatReply]]) -> ChatReply:
        """The reply of the one request of that key that is under way, which this call starts where there is none."""
        shared = self._running.get(key)
        joins = shared is not None
        if shared is None:
            shared = self._running[key] = _Shared(asyncio.create_task(work(), name="provider-request"))
            shared.task.add_done_callback(lambda task: self._ended(key, task))
        self.joined += joins
        shared.waiting += 1
        try:
            reply = await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                self._forget(key, shared.task)
                shared.task.cancel()
        return free(reply) if joins else reply

    def _ended(self, key: bytes, task: asyncio.Task[ChatReply]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody is told a second time

    def _forget(self, key: bytes, task: asyncio.Task[ChatReply]) -> None:
        if key in self._running and self._running[key].task is task:
            del self._running[key]


def free(reply: ChatReply) -> ChatReply:
    """The same reply for somebody who does not pay for it."""
    cost = None if reply.cost_usd is None else 0.0
    return replace(reply, calls=0, prompt_tokens=0, completion_tokens=0, cached_tokens=0, cost_usd=cost, remembered=True)
