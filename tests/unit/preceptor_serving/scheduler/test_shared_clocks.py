"""Shared clocks: what a mirror shows, what one worker learns of the others, and what an outage costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import Unavailable
from preceptor.queue import MemoryQueue
from preceptor_serving.scheduler.clocks import Charge
from preceptor_serving.scheduler.shared_clocks import SharedClocks
from preceptor_serving.scheduler.types import FlowKey

A, B = (FlowKey("t", "acme", job, 1) for job in ("a", "b"))
AMOUNTS = st.integers(-50, 50).map(float)


class Server:
    """A queue that can be away, and remembers how many batches it was sent."""

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.away = False
        self.calls = 0

    async def advance_clocks(self, teacher: str, charges: Any) -> Any:
        self.calls += 1
        if self.away:
            raise Unavailable("the server is away")
        return await self.queue.advance_clocks(teacher, charges)


@asynccontextmanager
async def workers(server: Server, count: int = 2) -> AsyncGenerator[list[SharedClocks]]:
    clocks = [SharedClocks(server, "t") for _ in range(count)]  # pyright: ignore[reportArgumentType]
    for one in clocks:
        one.start()
    try:
        yield clocks
    finally:
        for one in clocks:
            await one.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a task of its own changes it, which tells nobody
            await asyncio.sleep(0.005)


def charge(flow: FlowKey, charged: float, settled: float = 0.0, floor: float = 0.0) -> Charge:
    return Charge(flow, settled, floor, charged)


@given(clock=AMOUNTS, charges=st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=6))
def test_joined_charges_do_what_they_do_one_after_the_other(clock: float, charges: list[tuple[float, float, float]]) -> None:
    first, *rest = [Charge(A, *each) for each in charges]
    joined, stepped = first, first.applied_to(clock)
    for each in rest:
        joined, stepped = joined.then(each), each.applied_to(stepped)
    assert joined.applied_to(clock) == stepped


async def test_a_charge_shows_here_at_once_and_elsewhere_with_the_next_batch() -> None:
    async with workers(Server()) as (one, other):
        one.advance([charge(A, 100.0)], 0.0)
        assert one.clock(A) == 100.0
        await until(lambda: not one._outbox)
        assert other.clock(A) == 0.0  # asked for, so it comes with the next batch, whatever that charges
        other.advance([charge(B, 5.0)], 0.0)
        await until(lambda: other.clock(A) == 100.0)
        other.advance([charge(A, 1.0)], 0.0)
        assert other.clock(A) == 101.0


async def test_clocks_that_come_back_keep_what_was_charged_meanwhile() -> None:
    server = Server()
    async with workers(server) as (one, other):
        other.advance([charge(A, 1000.0)], 0.0)
        await until(lambda: server.calls == 1 and other.clock(A) == 1000.0)
        one.advance([charge(A, 10.0)], 0.0)
        await asyncio.sleep(0)  # under way
        one.advance([charge(A, 7.0, settled=-3.0)], 0.0)
        await until(lambda: one.clock(A) == 1014.0)


async def test_an_outage_is_told_and_loses_no_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preceptor_serving.scheduler.shared_clocks.RETRY_S", 0.01)
    server = Server()
    async with workers(server) as (one, other):
        server.away = True
        for _ in range(5):
            one.advance([charge(A, 10.0), charge(B, 1.0)], 0.0)
            await asyncio.sleep(0.02)
        assert one.clock(A) == 50.0
        assert one.trouble is not None
        assert "this process alone" in one.trouble
        server.away = False
        await until(lambda: one.trouble is None and not one._outbox)
        other.advance([charge(A, 1.0)], 0.0)
        await until(lambda: other.clock(A) == 51.0)
