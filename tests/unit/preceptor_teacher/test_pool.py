"""The queue before an engine: whatever goes wrong in it, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from preceptor import wire
from preceptor.errors import Internal, Unavailable
from preceptor.types import Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.scheduler.types import FlowKey, QueueLimits, Task, Work
from preceptor_teacher.pool import EnginePool, PoolPolicy, _cancelled
from preceptor_teacher.tickets import Ticket

NAME, WAIT_S = "fake", 20.0


@asynccontextmanager
async def pool_of(**options) -> AsyncGenerator[EnginePool]:
    channel = InlineEngine(lambda: FakeEngine(FakeOptions(name=NAME, **options)))
    pool = EnginePool(channel, PoolPolicy(batch_tasks=1, calls_in_flight=1), QueueLimits())
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def ticket(pool: EnginePool, name: str) -> Ticket:
    sequence = Sequence.of([1, 2, 3], [4, 5, 6])
    item = teacher_pb2.ScoreItem(sequence=wire.sequence_to_proto(sequence), want=wire.want_to_proto(Want(sampled=True)))
    return Ticket(Task(name, FlowKey(NAME, "acme", "job", 0), Work(6, 3), 1.0, 1e9), item, pool.info.model)


async def outcome(one: Ticket) -> object:
    async with asyncio.timeout(WAIT_S):
        try:
            return await one.result
        except (Internal, Unavailable) as error:
            return error


@pytest.mark.parametrize("broken", ["next_batch", "take_dropped"])
async def test_a_defect_between_two_batches_ends_what_waits_and_what_comes_later_is_served(broken):
    async with pool_of(tokens_per_s=200.0) as pool:
        running = ticket(pool, "running")
        pool.submit(running)
        await asyncio.sleep(0.02)  # it is on the engine; the next two wait

        def defect(*positional, **named):
            raise KeyError("no such flow")

        setattr(pool.scheduler, broken, defect)
        waiting = [ticket(pool, f"waiting-{i}") for i in range(2)]
        for one in waiting:
            pool.submit(one)
        for one in waiting:
            error = await outcome(one)
            assert isinstance(error, Internal), error
            assert "teacher's log" in error.hint
        assert running.result.done(), "nothing is left behind"
        later = ticket(pool, "later")
        pool.submit(later)
        assert isinstance(await outcome(later), teacher_pb2.ScoreResult)
        assert pool.waiting(later.task.flow) == 0


async def test_stopping_ends_what_is_on_the_engine_and_what_waits():
    async with pool_of(tokens_per_s=200.0) as pool:
        tickets = [ticket(pool, f"t{i}") for i in range(3)]
        for one in tickets:
            pool.submit(one)
        await asyncio.sleep(0)
        await pool.stop()
        assert [type(await outcome(one)) for one in tickets] == [Unavailable] * 3


async def test_who_comes_while_a_call_is_computed_is_not_behind_a_call_that_was_sent_too_early():
    """The engine takes half a second for each item; the flood's second item must not stand there when the other job's comes."""
    channel = InlineEngine(lambda: FakeEngine(FakeOptions(name=NAME, tokens_per_s=12.0)))
    pool = EnginePool(channel, PoolPolicy(batch_tasks=1), QueueLimits())
    await pool.start()
    try:
        timed = ticket(pool, "timed")
        pool.submit(timed)
        await outcome(timed)
        flood = [ticket(pool, f"flood-{i}") for i in range(3)]
        for one in flood:
            pool.submit(one)
        await asyncio.sleep(0.05)
        victim = ticket(pool, "victim")
        victim.task = replace(victim.task, flow=FlowKey(NAME, "acme", "other", 0))
        pool.submit(victim)
        assert isinstance(await outcome(victim), teacher_pb2.ScoreResult)
        assert [one.result.done() for one in flood] == [True, False, False]
    finally:
        await pool.stop()


async def test_a_call_that_the_engine_refuses_says_nothing_of_its_pace(monkeypatch):
    """It comes back at once; taken for a quick one it would have a whole batch sent ahead again."""
    async with pool_of(tokens_per_s=200.0) as pool:
        computed = ticket(pool, "computed")
        pool.submit(computed)
        assert isinstance(await outcome(computed), teacher_pb2.ScoreResult)
        await asyncio.sleep(0.01)  # its call has come back as well
        before = pool._pace.s_per_cost

        async def refuse(version, tickets):
            raise Unavailable("not now")

        monkeypatch.setattr(pool, "_call", refuse)
        for number in range(20):
            refused = ticket(pool, f"refused-{number}")
            pool.submit(refused)
            assert isinstance(await outcome(refused), Unavailable)
        assert pool._pace.s_per_cost == before


async def test_who_comes_while_the_calls_of_a_defect_end_is_told_and_not_sent_to_the_engine(monkeypatch):
    async with pool_of() as pool:
        running, late, sent, begun = ticket(pool, "running"), ticket(pool, "late"), list[str](), asyncio.Event()

        async def run(batch) -> bool:
            sent.extend(task.task_id for task in batch.tasks)
            begun.set()
            try:
                await asyncio.sleep(WAIT_S)
                return True
            finally:
                pool.submit(late)

        def defect(now_s):
            monkeypatch.undo()
            raise KeyError("no such call")

        pool._run = run
        pool.submit(running)
        async with asyncio.timeout(WAIT_S):
            await begun.wait()
        monkeypatch.setattr(pool._pace, "pause_s", defect)
        pool._work.set()
        assert [type(await outcome(one)) for one in (running, late)] == [Internal] * 2
        await asyncio.sleep(0.01)
        assert sent == ["running"], "a ticket that has ended is in no queue"


async def test_ending_a_call_can_itself_be_given_up():
    async def slow_to_end():
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)

    call = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    ending = asyncio.create_task(_cancelled(call))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled(), "its owner's end must not be swallowed"
    await call


async def test_a_task_without_a_ticket_does_not_keep_its_neighbours_waiting(monkeypatch):
    async with pool_of() as pool:
        batched = pool.scheduler.next_batch

        def with_a_stranger(*positional, **named):
            stranger = ticket(pool, "stranger")
            pool.scheduler.submit(stranger.task, pool._now_s())
            return batched(*positional, **named | {"max_tasks": 2})

        monkeypatch.setattr(pool.scheduler, "next_batch", with_a_stranger)
        known = ticket(pool, "known")
        pool.submit(known)
        result = await outcome(known)
        monkeypatch.undo()
        assert isinstance(result, teacher_pb2.ScoreResult)
        assert result.rows.count == 3
        assert not pool.standings()
