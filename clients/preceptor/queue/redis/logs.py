"""Response logs on the server."""

from __future__ import annotations

from typing import Any

from preceptor.queue import parts
from preceptor.queue.keys import LogName
from preceptor.queue.redis.doors import Part
from preceptor.queue.redis.link import Value
from preceptor.queue.redis.replies import accepted
from preceptor.queue.stored import stored
from preceptor.queue.types import Appended, LogView, Subscriber
from preceptor_proto.v1 import rollout_pb2


class RedisLogs(Part):
    """`preceptor.queue.protocol.ResponseLogs`."""

    async def append(self, log: LogName, entry: rollout_pb2.LogEntry) -> Appended:
        """See `ResponseLogs.append`."""
        part = parts.log_part(entry)
        length, subscribers = await self._on_log(
            "append_to_log",
            log,
            offset=part.offset,
            stop=part.end,
            kind=part.kind,
            plane_at=part.payload.find(part.plane),
            payload=part.payload,
            finish_reason=part.finish_reason,
            kept_ms=self._kept_ms,
        )
        names = sorted(name.decode() for name in subscribers)
        return Appended(length, tuple(Subscriber.parse(name) for name in names))

    async def read(self, log: LogName, offset: int = 0) -> LogView:
        """See `ResponseLogs.read`."""
        length, finish_reason, payloads = await self._on_log("read_log", log, offset=offset, kept_ms=self._kept_ms)
        return LogView(tuple(stored(rollout_pb2.LogEntry, payload, "entry") for payload in payloads), length, finish_reason)

    async def follow(self, log: LogName, offset: int, timeout_s: float) -> LogView:
        """See `ResponseLogs.follow`."""
        view = LogView((), 0)

        async def grown() -> LogView | None:
            nonlocal view
            view = await self.read(log, offset)
            return view if view.length > offset or view.closed else None

        return await self._wakes.until(log.ids, grown, timeout_s) or view

    async def subscribe(self, log: LogName, subscriber: Subscriber) -> None:
        """See `ResponseLogs.subscribe`."""
        await self._on_log("subscribe", log, subscriber=str(subscriber), kept_ms=self._kept_ms)

    async def unsubscribe(self, log: LogName, subscriber: Subscriber) -> None:
        """See `ResponseLogs.unsubscribe`."""
        await self._on_log("unsubscribe", log, subscriber=str(subscriber))

    async def _on_log(self, name: str, log: LogName, **args: Value) -> list[Any]:
        return accepted(await self._link.run(name, {"ids": log.ids, "subs": log.subs}, args), f"log {log.attempt}")
