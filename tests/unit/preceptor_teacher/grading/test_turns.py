"""Whose turn it is at a judge: fair between flows, by weight, whatever ends while it waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

import pytest

from preceptor.errors import DeadlineExceeded, Exhausted
from preceptor_serving.scheduler.types import FlowKey, QueueLimits
from preceptor_teacher.turns import AHEAD, Turns

A, B = (FlowKey("judge", tenant, "j", 0) for tenant in "ab")


async def served(turns: Turns, wanted: Iterable[tuple[FlowKey, float]], texts: int = 1) -> list[FlowKey]:
    """The flows in the order in which their requests had their turns; each turn takes one round of the loop."""
    order: list[FlowKey] = []

    async def ask(flow: FlowKey, weight: float) -> None:
        async with turns.turn(flow, texts, weight):
            order.append(flow)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(flow, weight) for flow, weight in wanted))
    return order


async def test_a_flood_that_came_first_shares_with_who_comes_later():
    order = await served(Turns(1, QueueLimits()), [(A, 1.0)] * 20 + [(B, 1.0)] * 5)
    assert Counter(order[: AHEAD + 10])[B] == 5


async def test_weights_share_the_texts():
    order = await served(Turns(1, QueueLimits()), [(A, 3.0)] * 40 + [(B, 1.0)] * 40)
    assert 0.6 <= Counter(order[:40])[A] / 40 <= 0.85


async def test_so_many_texts_are_read_at_once_and_a_large_request_has_its_turn_too():
    turns, inside, most = Turns(2, QueueLimits()), 0, 0

    async def ask(texts: int) -> None:
        nonlocal inside, most
        async with turns.turn(A, texts, 1.0):
            inside += texts
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= texts

    await asyncio.gather(*(ask(1) for _ in range(30)))
    assert most == turns.texts == 4
    await asyncio.gather(ask(50), ask(1))
    assert inside == 0


async def test_who_gives_up_or_fails_gives_its_place_to_the_next():
    turns = Turns(1, QueueLimits())
    async with turns.turn(A, 2, 1.0):
        waiting = asyncio.create_task(served(turns, [(B, 1.0)]))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    with pytest.raises(ValueError, match="inside"):
        async with turns.turn(A, 2, 1.0):
            raise ValueError("inside")
    assert await served(turns, [(B, 1.0)], texts=2) == [B]


async def test_who_gives_up_as_another_one_leaves_costs_neither_that_one_nor_the_next():
    turns, leave = Turns(1, QueueLimits()), asyncio.Event()

    async def first() -> str:
        async with turns.turn(A, 2, 1.0):
            await leave.wait()
        return "verdict"

    leaving = asyncio.create_task(first())
    await asyncio.sleep(0)
    gone, following = (asyncio.create_task(served(turns, [(B, 1.0)], texts=2)) for _ in range(2))
    for _ in range(5):  # both wait for their turn
        await asyncio.sleep(0)
    leave.set()
    gone.cancel()  # it hears of it after the first one has left
    found = await asyncio.wait_for(asyncio.gather(leaving, gone, following, return_exceptions=True), 5)
    assert (found[0], type(found[1]), found[2]) == ("verdict", asyncio.CancelledError, [B])


async def test_a_deadline_that_passes_in_the_queue_and_a_full_queue_are_told(monkeypatch: pytest.MonkeyPatch):
    turns, now_s, until_s = Turns(1, QueueLimits(flow_tasks=1)), [0.0], 1.0
    monkeypatch.setattr("preceptor_teacher.turns._now_s", lambda: now_s[0])

    async def late() -> None:
        async with turns.turn(B, 1, 1.0, until_s):
            raise AssertionError("it had its turn")

    async with turns.turn(A, 2, 1.0):
        waiting = asyncio.create_task(late())
        await asyncio.sleep(0)
        with pytest.raises(Exhausted) as full:
            await served(turns, [(B, 1.0)])
        assert full.value.queue_position == 1
        now_s[0] = 2.0
    with pytest.raises(DeadlineExceeded):
        await waiting


async def test_all_who_are_cancelled_at_once_hear_of_that_alone_and_whoever_is_left_has_the_room():
    """A service that stops cancels its leases together: who leaves first must not stumble over who is about to."""
    turns, inside = Turns(1, QueueLimits()), asyncio.Event()

    async def ask(flow: FlowKey) -> None:
        async with turns.turn(flow, 2, 1.0):
            inside.set()
            await asyncio.sleep(60)

    first, second, third = [asyncio.create_task(ask(flow)) for flow in (A, B, A)]
    await inside.wait()
    inside.clear()
    first.cancel()
    second.cancel()
    assert [type(one) for one in await asyncio.gather(first, second, return_exceptions=True)] == [asyncio.CancelledError] * 2
    async with asyncio.timeout(5):
        await inside.wait()
    assert turns.start_tag(B) == turns.start_tag(B._replace(tenant="c")), "it paid for a turn that it did not have"
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert await served(turns, [(B, 1.0)], texts=2) == [B]
