"""Looking at the server's flows without touching them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from preceptor.queue.keys import VERSION, Flow, teacher_of
from preceptor.queue.ranks import range_start
from preceptor.queue.redis.doors import Part, score_text
from preceptor.queue.redis.replies import pairs
from preceptor.queue.types import FlowView

PAGE_KEYS = 1000


class RedisOverview(Part):
    """`preceptor.queue.protocol.Overview`."""

    async def teachers(self) -> tuple[str, ...]:
        """See `Overview.teachers`."""
        cursor, found = 0, set[str]()
        while True:
            cursor, keys = await self._link.insist(lambda _, at=cursor: self._page(at))
            found.update(name for key in keys if (name := teacher_of(key.decode())) is not None)
            if cursor == 0:
                return tuple(sorted(found))

    async def describe_flows(self, teacher: str) -> tuple[FlowView, ...]:
        """See `Overview.describe_flows`."""
        suspects_from = score_text(range_start(0, suspect=True))
        (found,) = await self._on_teacher("describe_flows", teacher, suspects_from=suspects_from)
        return tuple(sorted(_views(teacher, found), key=lambda view: view.flow))

    async def _page(self, cursor: int) -> tuple[int, list[bytes]]:
        scan = cast("Callable[..., Any]", self._link.client.scan)  # pyright: ignore[reportUnknownMemberType]
        at, keys = await scan(cursor, match=f"{VERSION}:{{*}}:flows", count=PAGE_KEYS)
        return int(at), keys


def _views(teacher: str, found: list[Any]) -> Iterator[FlowView]:
    for name, ready, suspects, leased, unread_results, unread_bytes, letters, clocks in found:
        tenant, job = name.decode().split(":")
        by_band = {int(band): float(clock) for band, clock in pairs(clocks)}
        yield FlowView(
            Flow(teacher, tenant, job),
            ready,
            suspects,
            leased,
            unread_results,
            unread_bytes,
            letters,
            dict(sorted(by_band.items())),
        )
