"""Reservations of one process: a ledger that is away, callers who leave, holds that are renewed; and counts that arrive once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from preceptor.errors import Exhausted, TooLarge, Unavailable
from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import RESERVED_S, Counter, QuotaLimits
from preceptor_serving.quotas.book import UsageBook
from preceptor_serving.quotas.desk import Desk, Hold
from tests.contract.queue_rig import Clock

LIMITS = QuotaLimits(tokens_per_minute=100, in_flight=2)


class Shared(MemoryLedger):
    """A ledger that may be away, slow, or lose its reply after it has done its work."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.away = self.loses_replies = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def apply(self, *args: Any) -> Any:
        if self.away:
            raise Unavailable("the server is away")
        answers = await super().apply(*args)
        await self.gate.wait()
        return answers

    async def add_usage(self, *args: Any) -> None:
        if self.away:
            raise Unavailable("the server is away")
        await super().add_usage(*args)
        if self.loses_replies:
            raise Unavailable("no reply")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(clock: Clock) -> Shared:
    return Shared(clock)


@pytest.fixture
def desk(shared: Shared, clock: Clock) -> Desk:
    return Desk(shared, MemoryLedger(clock))


async def reserve(desk: Desk, effect: str, tokens: int = 10, limits: QuotaLimits = LIMITS) -> Hold:
    return await desk.reserve("t", "acme", limits, tokens=tokens, places=1, effect=effect)


async def test_a_refusal_closes_the_tenant_until_there_is_room(desk: Desk) -> None:
    holds = [await reserve(desk, name) for name in "ab"]
    with pytest.raises(Exhausted) as refused:
        await reserve(desk, "c")
    assert (refused.value.field, refused.value.limit) == ("quota.in_flight", "2")
    assert desk.closed("t", "acme")
    assert not desk.closed("t", "other")
    await holds[0].settle(10)
    await reserve(desk, "c")
    assert not desk.closed("t", "acme")


async def test_without_limits_the_ledger_is_never_asked(desk: Desk, shared: Shared) -> None:
    shared.away = True
    await (await reserve(desk, "a", limits=QuotaLimits())).settle(5)
    assert desk.trouble is None
    with pytest.raises(TooLarge):
        await reserve(desk, "a", tokens=101)


async def test_a_ledger_that_is_away_is_told_replaced_and_found_again(
    desk: Desk, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preceptor_serving.quotas.desk.AWAY_S", 0.0)
    shared.away = True
    hold = await reserve(desk, "a", tokens=100)
    assert "this process alone" in str(desk.trouble)
    with pytest.raises(Exhausted):  # limits hold here too
        await reserve(desk, "b", tokens=1)
    await hold.settle(0)
    shared.away = False
    await reserve(desk, "b", tokens=100)
    assert desk.trouble is None


async def test_a_caller_who_leaves_while_his_reservation_is_made_leaves_none_behind(desk: Desk, shared: Shared) -> None:
    shared.gate.clear()
    leaving = asyncio.create_task(reserve(desk, "a", tokens=100))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    shared.gate.set()
    await desk.close()
    await reserve(desk, "b", tokens=100)


async def test_a_settlement_is_made_though_its_caller_is_cancelled(desk: Desk, shared: Shared) -> None:
    hold = await reserve(desk, "a", tokens=100)
    shared.gate.clear()
    settling = asyncio.create_task(hold.settle(1))
    await asyncio.sleep(0)
    settling.cancel()
    await asyncio.wait({settling})
    shared.gate.set()
    await desk.close()
    await reserve(desk, "b", tokens=99)


async def test_what_is_held_is_renewed_and_what_is_abandoned_is_not(desk: Desk, clock: Clock) -> None:
    held, abandoned = await reserve(desk, "a"), await reserve(desk, "b")
    abandoned.abandon()
    for _ in range(3):
        clock.advance(RESERVED_S / 2)
        await desk.renew()
    await reserve(desk, "c")
    with pytest.raises(Exhausted):
        await reserve(desk, "d")
    await held.settle(0)
    await reserve(desk, "d")


async def test_counts_that_were_added_before_the_reply_was_lost_are_added_once(shared: Shared) -> None:
    book = UsageBook(shared)
    shared.loses_replies = True
    book.count("t", "acme", "job", {Counter.ROWS: 3})
    for _ in range(2):
        with pytest.raises(Unavailable):
            await book.flush()
        book.count("t", "acme", "job", {Counter.ROWS: 1})
    shared.loses_replies = False
    assert await book.usage("t", "acme") == {"job": {Counter.ROWS: 5}}
    shared.away = True
    book.count("t", "acme", "job", {Counter.ROWS: 1})
    with pytest.raises(Unavailable):
        await book.usage("t", "acme")
    shared.away = False
    assert await book.usage("t", "acme") == {"job": {Counter.ROWS: 6}}
