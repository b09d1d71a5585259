"""The in-memory keys behave like a server's: they expire, and one step stays in one slot and with the keys it declares."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import preceptor.queue.scripts.quotas  # noqa: F401  declares its steps
from preceptor.errors import Internal
from preceptor.queue import Flow, LogName, MemoryQueue, QueueBounds
from preceptor.queue.bells import Bells
from preceptor.queue.envelopes import unpack
from preceptor.queue.keys import flows_key, kind_of
from preceptor.queue.scripts import SCRIPTS, script
from preceptor.queue.space import KeySpace, Slot
from preceptor.queue.types import OUT_START
from preceptor.queue.values import ReadySet, StreamValue
from preceptor_proto.v1 import common_pb2, teacher_pb2

FLOW, OTHER = Flow("t1", "a", "j"), Flow("t2", "a", "j")


@pytest.fixture
def declared_here() -> Iterator[None]:
    known = set(SCRIPTS)
    yield
    for name in set(SCRIPTS) - known:
        del SCRIPTS[name]


def test_values_end_with_their_time() -> None:
    space = KeySpace()
    space.step(0).put(FLOW.out, b"x")
    space.step(0).expire(FLOW.out, 1.0)
    assert space.step(999).get(FLOW.out, bytes) == b"x"
    assert space.step(1000).get(FLOW.out, bytes) is None
    assert space.keys() == ()


def test_what_nobody_touches_is_swept_away() -> None:
    space = KeySpace()
    space.step(0).put(FLOW.out, b"x")
    space.step(0).expire(FLOW.out, 1.0)
    for _ in range(5000):
        space.step(2000)
    assert space.keys() == ()


def test_one_step_touches_one_slot() -> None:
    slot = KeySpace().step(0)
    slot.get(FLOW.out, bytes)
    slot.get(flows_key("t1"), bytes)
    for key in (OTHER.out, LogName("a", "j", "x").ids):
        with pytest.raises(Internal, match="two slots"):
            slot.get(key, bytes)


def test_a_key_of_another_type_is_a_defect() -> None:
    slot = KeySpace().step(0)
    slot.put(FLOW.out, b"x")
    with pytest.raises(Internal, match="bytes"):
        slot.get(FLOW.out, StreamValue)


@pytest.mark.usefixtures("declared_here")
def test_a_step_that_touches_more_than_it_declares_is_a_defect() -> None:
    @script("out")
    def sneaky(slot: Slot, key: str) -> None:
        slot.delete(key)

    sneaky(KeySpace().step(0), FLOW.out)
    with pytest.raises(Internal, match="sneaky"):
        sneaky(KeySpace().step(0), FLOW.dead)


def test_sorted_sets_keep_one_score_a_member() -> None:
    ready = ReadySet()
    for member, score in (("b", 2), ("a", 2), ("c", 1), ("a", 5)):
        ready.add(member, score)
    assert (ready.first(0, 9), ready.first(2, 9), ready.first(3, 5), ready.count(1, 5), len(ready)) == ("c", "b", None, 2, 3)
    ready.remove("c")
    ready.remove("never there")
    assert ready.first(0, 9) == "b"


def test_positions_rise_whatever_the_clock_does() -> None:
    stream = StreamValue()
    assert [stream.add(b"", now) for now in (5, 5, 3, 9)] == [(5, 0), (5, 1), (5, 2), (9, 0)]
    assert [stream.behind(at) for at in ((0, 0), (5, 0), (5, 2), (9, 0))] == [0, 1, 3, 4]
    assert (stream.find((5, 1)), stream.find((6, 0))) == (1, None)


async def test_a_bell_wakes_who_waits_and_forgets_who_left() -> None:
    bells, found = Bells(), []
    waiters = [asyncio.create_task(bells.until("k", lambda: found or None, 60.0)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    bells.ring("k")
    await asyncio.sleep(0)
    assert not waiters[1].done()
    found.append(1)
    bells.ring("other")
    bells.ring_all()
    assert await asyncio.gather(*waiters[1:]) == [[1], [1]]
    assert await bells.until("k", lambda: None, 0.01) is None


@pytest.mark.parametrize("payload", [b"\xff\xff", teacher_pb2.Envelope(schema=2, task_id="x").SerializeToString(), b""])
def test_an_entry_that_cannot_be_read_belongs_to_no_task(payload: bytes) -> None:
    envelope = unpack(payload)
    assert (envelope.task_id, envelope.error.code) == ("", common_pb2.CORRUPT)


async def test_the_reader_passes_an_unreadable_entry() -> None:
    space = KeySpace()
    space.step(0).ensure(FLOW.out, StreamValue).add(b"\xff\xff", 1)
    queue = MemoryQueue(space=space, bounds=QueueBounds(), clock=lambda: 0.0)
    (entry,) = await queue.read_out(FLOW)
    assert entry.envelope.error.code == common_pb2.CORRUPT
    assert await queue.read_out(FLOW, entry.position) == ()
    assert (await queue.read_out(FLOW, OUT_START, limit=1))[0].position == entry.position


def test_declared_kinds_are_kinds_of_keys() -> None:
    kinds = {kind_of(key) for key in (FLOW.ready, FLOW.out, FLOW.dead, FLOW.task("a"), FLOW.blob("a"), flows_key("t"))}
    kinds |= {"leases", "ids", "subs", "quota", "usage"}
    assert set().union(*SCRIPTS.values()) == kinds
