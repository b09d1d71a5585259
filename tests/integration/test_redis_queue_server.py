"""The Redis queue and its server: time, memory, rights, waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from preceptor.errors import ConfigurationError, Exhausted, Unauthenticated, Unavailable
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Lease, Queue, QueueBounds, TaskState, Then
from preceptor.queue.redis import Patience, RedisQueue, wakes
from tests.contract.queue_rig import FLOW, TEACHER, Clock, entry, inline_task, lease_one, log_name, put, rows

BOUNDS = QueueBounds()
ACL = "on ~pc1:* &pc1:* +@read +@write +@scripting +@pubsub +@connection +time -@dangerous +info"  # as in docs/redis.md


@asynccontextmanager
async def opened(server: EmbeddedValkey, **options: Any) -> AsyncIterator[RedisQueue]:
    queue = await RedisQueue.connect(server.url, **{"password": server.password, **options})
    try:
        yield queue
    finally:
        await queue.close()


@pytest.fixture
async def queue(server: EmbeddedValkey, client: Any) -> AsyncIterator[Queue]:
    async with opened(server) as found:
        yield found


class TestTime:
    async def test_without_a_clock_the_servers_decides(self, queue: RedisQueue, client: Any) -> None:
        await put(queue, inline_task())
        before_s = float(".".join(f"{part:06d}" for part in client.time()))
        lease = await lease_one(queue)
        after_s = float(".".join(f"{part:06d}" for part in client.time()))
        assert before_s - 0.001 <= lease.expires_at_s - BOUNDS.lease_s <= after_s

    async def test_a_dead_workers_task_does_not_wait_for_a_clock_that_went_back(
        self, server: EmbeddedValkey, client: Any
    ) -> None:
        clock = Clock()
        async with opened(server, clock=clock) as queue:
            await put(queue, inline_task())
            await lease_one(queue)
            clock.advance(-24 * 3600.0)
            assert await queue.reclaim(TEACHER) == ()
            clock.advance(BOUNDS.lease_s)
            (reclaimed,) = await queue.reclaim(TEACHER)
            assert reclaimed.state is TaskState.READY

    async def test_a_longer_lease_of_another_worker_is_not_shortened(self, server: EmbeddedValkey, client: Any) -> None:
        clock = Clock()
        async with (
            opened(server, clock=clock, bounds=replace(BOUNDS, lease_s=300.0)) as slow,
            opened(server, clock=clock) as quick,
        ):
            await put(slow, inline_task())
            lease = await lease_one(slow)
            assert await quick.reclaim(TEACHER) == ()
            clock.advance(299.0)
            assert await quick.reclaim(TEACHER) == ()
            await slow.commit(lease, [rows(0, [1])], 0, Then.FINISH)

    async def test_every_key_has_a_time_to_live_but_those_that_shrink_by_use(self, queue: RedisQueue, client: Any) -> None:
        for n in range(3):
            await put(queue, inline_task(f"task-{n}"))
        await queue.commit(await lease_one(queue), [rows(0, list(range(5000)))], 0)
        await lease_one(queue)
        await queue.append(log_name(), entry(0, [1]))
        forever = {key.decode().rpartition(":")[2] for key in client.scan_iter("*") if client.pttl(key) < 0}
        assert forever == {"flows", "leases"}


class TestMemory:
    async def test_a_full_server_refuses_whole_steps_and_is_emptied_by_reading(self, server: EmbeddedValkey, client: Any) -> None:
        async with opened(server) as queue:
            for n in range(8):
                await put(queue, inline_task(f"task-{n}"))
            leases = await queue.lease(FLOW, "w1", limit=8)
            client.config_set("maxmemory", client.info("memory")["used_memory"] + (4 << 20))
            try:
                done = await self.fill(queue, leases)
                assert 0 < done < 8
                info = await queue.task_info(FLOW, leases[done].task_id)
                assert info is not None
                assert (info.state, info.next_row) == (TaskState.LEASED, 0)
                await queue.heartbeat(leases[done])
                entries = await queue.read_out(FLOW)
                assert len(entries) == done
                await queue.delete_out(FLOW, entries[-1].position, [each.envelope.blob for each in entries])
                await queue.commit(leases[done], [rows(0, [1])], 0, Then.FINISH)
            finally:
                client.config_set("maxmemory", 0)

    async def fill(self, queue: RedisQueue, leases: Sequence[Lease]) -> int:
        """How many large results it took."""
        for done, lease in enumerate(leases):
            try:
                await queue.commit(lease, [rows(0, list(range(200_000)))], 0, Then.FINISH)
            except Exhausted:
                return done
        return len(leases)


class TestRights:
    async def test_a_user_with_the_documented_rights_can_do_everything(self, server: EmbeddedValkey, client: Any) -> None:
        client.execute_command("ACL", "SETUSER", "worker", *ACL.split(), ">secret")
        url = server.url.replace("redis://", "redis://worker@")
        queue = await RedisQueue.connect(url, password="secret")
        try:
            waiting = asyncio.create_task(queue.wait_ready(TEACHER, 30.0))
            await put(queue, inline_task())
            assert await waiting
            await queue.commit(await lease_one(queue), [rows(0, list(range(5000)))], 0, Then.FINISH)
            (found,) = await queue.read_out(FLOW)
            assert await queue.read_blob(FLOW, found.envelope.blob) is not None
            await queue.delete_out(FLOW, found.position, [found.envelope.blob])
            await queue.reclaim(TEACHER)
        finally:
            await queue.close()

    async def test_a_wrong_password_is_said_at_once(self, server: EmbeddedValkey) -> None:
        with pytest.raises(Unauthenticated):
            await RedisQueue.connect(server.url, password="guess")

    async def test_a_server_that_evicts_is_refused(self, server: EmbeddedValkey, client: Any) -> None:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", 1 << 30)
        try:
            with pytest.raises(ConfigurationError, match="allkeys-lru"):
                await RedisQueue.connect(server.url, password=server.password)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)

    async def test_nobody_there_is_unavailable_within_the_patience(self) -> None:
        with pytest.raises(Unavailable):
            await RedisQueue.connect("redis://127.0.0.1:1/0", patience=Patience(total_s=0.2))


class TestWaiting:
    async def test_a_message_wakes_a_waiter_long_before_it_would_look_again(
        self, server: EmbeddedValkey, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With looking again put off for a minute, only a message can wake it."""
        monkeypatch.setattr(wakes, "LOOK_AGAIN_S", 60.0)
        async with opened(server) as waiter, opened(server) as writer:
            reading = asyncio.create_task(waiter.read_out(FLOW, timeout_s=60.0))
            ready = asyncio.create_task(waiter.wait_ready(TEACHER, 60.0))
            following = asyncio.create_task(waiter.follow(log_name(), 0, 60.0))
            await asyncio.sleep(0.3)
            async with asyncio.timeout(20):
                await writer.append(log_name(), entry(0, [1]))
                assert (await following).length == 1
                await put(writer, inline_task())
                assert await ready
                await writer.commit(await lease_one(writer), [rows(0, [1])], 0, Then.FINISH)
                assert len(await reading) == 1

    async def test_a_job_that_reads_its_results_wakes_those_who_wait_for_its_work(
        self, server: EmbeddedValkey, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wakes, "LOOK_AGAIN_S", 60.0)
        async with opened(server, bounds=replace(BOUNDS, unread_bytes=100)) as queue:
            await put(queue, inline_task("task-1"))
            await put(queue, inline_task("task-2"))
            await queue.commit(await lease_one(queue), [rows(0, list(range(100)))], 0, Then.FINISH)
            waiting = asyncio.create_task(queue.wait_ready(TEACHER, 60.0))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            (found,) = await queue.read_out(FLOW)
            await queue.delete_out(FLOW, found.position)
            async with asyncio.timeout(20):
                assert await waiting

    async def test_closing_ends_waiting_calls(self, queue: RedisQueue) -> None:
        waiting = [
            asyncio.create_task(queue.read_out(FLOW, timeout_s=60.0)),
            asyncio.create_task(queue.follow(log_name(), 0, 60.0)),
            asyncio.create_task(queue.wait_ready(TEACHER, 60.0)),
        ]
        await asyncio.sleep(0.1)
        await queue.close()
        async with asyncio.timeout(5):
            out, view, ready = await asyncio.gather(*waiting)
        assert (out, view.length, ready) == ((), 0, False)

    async def test_many_logs_are_followed_over_one_connection(self, queue: RedisQueue, client: Any) -> None:
        following = [asyncio.create_task(queue.follow(log_name(n), 0, 30.0)) for n in range(100)]
        async with asyncio.timeout(20):
            while [each["sub"] for each in client.client_list() if each["sub"] != "0"] != ["100"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for n in range(100):
            await queue.append(log_name(n), entry(0, [n]))
        assert {view.length for view in await asyncio.gather(*following)} == {1}
        again = [queue.follow(log_name(n), 0, 30.0) for n in range(100)]
        assert {view.length for view in await asyncio.gather(*again)} == {1}
