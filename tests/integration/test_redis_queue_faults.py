"""The Redis queue while its server and its connections fail: everything arrives, once, and no call waits for ever."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from preceptor.errors import NotFound, Unavailable
from preceptor.local.valkey import EmbeddedValkey, ValkeySettings
from preceptor.queue import ClockCharge, QueueBounds, TaskState, Then
from preceptor.queue.redis import Patience, RedisQueue
from preceptor.queue.redis.loading import scripts
from preceptor_proto.v1 import common_pb2, teacher_pb2
from tests.contract.queue_rig import FLOW, TEACHER, entry, error, inline_task, lease_one, log_name, put, rows, tokens_of
from tests.integration.queue_story import Story
from tests.support.tcp_proxy import TcpProxy

BOUNDS = QueueBounds(inline_rows_bytes=64)
LOG = log_name()


@dataclass
class Site:
    """A server, and queues on it that are closed at the end."""

    server: EmbeddedValkey
    stack: AsyncExitStack

    async def queue(
        self, *, through: TcpProxy | None = None, bounds: QueueBounds = BOUNDS, patience: Patience | None = None
    ) -> RedisQueue:
        url = f"redis://127.0.0.1:{through.port}/0" if through else self.server.url
        queue = await RedisQueue.connect(url, password=self.server.password, bounds=bounds, patience=patience)
        self.stack.push_async_callback(queue.close)
        return queue

    async def story(self, tasks: int, *, through: TcpProxy | None = None, bounds: QueueBounds = BOUNDS) -> Story:
        queues = [await self.queue(through=through, bounds=bounds) for _ in range(3)]
        return Story(queues[0], list(queues[1:]), tasks)

    async def proxy(self) -> TcpProxy:
        return await self.stack.enter_async_context(TcpProxy(self.server.port))

    def client(self) -> Any:
        return redis.Redis(port=self.server.port, password=self.server.password, socket_timeout=5)

    def load_scripts(self) -> None:
        """So that the first attempt at a script already runs it."""
        client = self.client()
        for script in scripts().values():
            assert client.script_load(script.text) == script.sha1
        client.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey", ValkeySettings(fsync="always")) as valkey:
        yield valkey


@pytest.fixture
async def site(server: EmbeddedValkey) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(server, stack)


class TestAServerThatDies:
    async def test_nothing_acknowledged_is_lost_by_kill_9(self, site: Site) -> None:
        story = await site.story(150)

        async def harm(story: Story) -> None:
            for share in (0.2, 0.5, 0.8):
                await story.reached(share)
                await asyncio.to_thread(site.server.kill)
                await asyncio.to_thread(site.server.start)

        await story.run(harm)
        story.check()
        assert set(story.computed.values()) == {1}

    async def test_a_server_restored_from_an_older_file_is_filled_again(self, site: Site, tmp_path: Path) -> None:
        story = await site.story(90)
        folder, older = site.server.folder / "appendonlydir", tmp_path / "older"

        def restart(*, keep: Path | None = None, restore: Path | None = None) -> None:
            site.server.stop()
            if keep is not None:
                shutil.copytree(folder, keep)
            if restore is not None:
                shutil.rmtree(folder)
                shutil.copytree(restore, folder)
            site.server.start()

        async def harm(story: Story) -> None:
            await story.reached(0.3)
            await asyncio.to_thread(restart, keep=older)
            await story.reached(0.6)
            await asyncio.to_thread(restart, restore=older)

        await story.run(harm)
        story.check()

    async def test_without_patience_a_dead_server_is_unavailable_and_not_a_hang(self, site: Site) -> None:
        queue = await site.queue(patience=Patience(total_s=0.3))
        site.server.kill()
        async with asyncio.timeout(10):
            for call in (queue.poke(FLOW, "task-1"), queue.wait_ready(TEACHER, 60.0), queue.read_out(FLOW, timeout_s=60.0)):
                with pytest.raises(Unavailable):
                    await call


class TestAServerThatStops:
    async def test_calls_that_a_stopped_server_holds_up_are_answered_once_it_goes_on(self, site: Site) -> None:
        story = await site.story(60)

        async def harm(story: Story) -> None:
            await story.reached(0.3)
            os.kill(site.server.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(3.0)
            finally:
                os.kill(site.server.pid, signal.SIGCONT)

        await story.run(harm)
        story.check()
        assert set(story.computed.values()) == {1}

    async def test_a_call_on_a_stopped_server_ends_with_its_patience(self, site: Site) -> None:
        queue = await site.queue(patience=Patience(total_s=0.5, attempt_s=0.2))
        os.kill(site.server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable):
                    await queue.append(LOG, entry(0, [1]))
        finally:
            os.kill(site.server.pid, signal.SIGCONT)
        assert (await queue.append(LOG, entry(0, [1]))).length == 1


class TestConnectionsThatBreak:
    async def test_work_goes_on_while_connections_are_reset(self, site: Site) -> None:
        proxy = await site.proxy()
        story = await site.story(120, through=proxy)

        async def harm(story: Story) -> None:
            for n in range(1, 40):
                await story.reached(n / 40)
                proxy.cut_all()

        await story.run(harm)
        story.check()
        assert set(story.computed.values()) == {1}
        assert proxy.cuts >= 39

    async def test_half_open_connections_are_given_up(self, site: Site) -> None:
        proxy = await site.proxy()
        queue = await site.queue(through=proxy, patience=Patience(attempt_s=0.2))
        waiting = asyncio.create_task(queue.wait_ready(TEACHER, 60.0))
        await asyncio.sleep(0.1)
        proxy.silence_all()
        await put(queue, inline_task())
        async with asyncio.timeout(20):
            assert await waiting


Act = Callable[[RedisQueue], Awaitable[object]]


class TestRepliesThatGetLost:
    """The server has done it, and the caller cannot know: it asks again, and it is done once."""

    @pytest.fixture
    async def proxy(self, site: Site) -> TcpProxy:
        site.load_scripts()
        return await site.proxy()

    @pytest.fixture
    async def queue(self, site: Site, proxy: TcpProxy) -> RedisQueue:
        return await site.queue(through=proxy)

    async def lose(self, proxy: TcpProxy, script: str, act: Awaitable[Any]) -> Any:
        proxy.lose_reply(scripts()[script].sha1.encode(), times=2)
        result = await act
        assert proxy.lost
        return result

    async def test_an_append_is_a_repeat(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        appended = await self.lose(proxy, "append_to_log", queue.append(LOG, entry(0, [1, 2])))
        assert appended.length == 2
        assert len((await queue.read(LOG)).entries) == 1

    async def test_a_lease_is_the_same_lease(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        for n in range(5):
            await put(queue, inline_task(f"task-{n}"))
        leases = await self.lose(proxy, "lease_tasks", queue.lease(FLOW, "w1", limit=2))
        assert len({lease.task_id for lease in leases}) == 2
        assert len(await queue.lease(FLOW, "w2", limit=9)) == 3
        for lease in leases:
            await queue.heartbeat(lease)

    @pytest.mark.parametrize("then", list(Then))
    async def test_a_commit_is_not_fenced_off_by_itself(self, queue: RedisQueue, proxy: TcpProxy, then: Then) -> None:
        await put(queue, inline_task())
        lease = await lease_one(queue)
        committed = await self.lose(proxy, "commit_rows", queue.commit(lease, [rows(0, [2, 3])], 2, then))
        expected = {Then.KEEP: TaskState.LEASED, Then.RELEASE: TaskState.IDLE, Then.FINISH: TaskState.FINISHED}
        assert (committed.state, committed.next_row) == (expected[then], 2)
        assert [tokens_of(each.envelope) for each in await queue.read_out(FLOW)] == [[2, 3]]

    async def test_a_result_without_rows_is_told_once(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        await put(queue, inline_task())
        verdict = teacher_pb2.Envelope(verdict=teacher_pb2.Verdict(reward=0.5))
        committed = await self.lose(proxy, "commit_rows", queue.commit(await lease_one(queue), [verdict], 0, Then.KEEP))
        assert committed.lease is not None
        assert len(await queue.read_out(FLOW)) == 1

    async def test_handing_back_and_failing_count_once(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        await put(queue, inline_task())
        await self.lose(proxy, "return_lease", queue.hand_back(await lease_one(queue)))
        refused = error(common_pb2.INVALID_ARGUMENT)
        state = await self.lose(proxy, "strike_task", queue.fail(await lease_one(queue), refused))
        info = await queue.task_info(FLOW, "task-1")
        assert info is not None
        assert (state, info.state, info.strikes) == (TaskState.READY, TaskState.READY, 1)

    async def test_clocks_are_charged_once(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        charge = ClockCharge(FLOW, 0, 0.0, 5.0, 2.5)
        assert await queue.advance_clocks(TEACHER, [charge]) == {(FLOW, 0): 7.5}
        act = queue.advance_clocks(TEACHER, [replace(charge, floor=0.0)])
        assert await self.lose(proxy, "advance_clocks", act) == {(FLOW, 0): 10.0}

    async def test_deleted_results_are_counted_once(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        for n in range(3):
            await put(queue, inline_task(f"task-{n}"))
            await queue.commit(await lease_one(queue), [rows(0, list(range(40)))], 0, Then.FINISH)
        await put(queue, inline_task("waiting"))
        (before,) = await queue.ready_bands(TEACHER)
        first, *_ = await queue.read_out(FLOW)
        await self.lose(proxy, "delete_results", queue.delete_out(FLOW, first.position, [first.envelope.blob]))
        (after,) = await queue.ready_bands(TEACHER)
        assert before.unread_bytes == 3 * (before.unread_bytes - after.unread_bytes)

    async def test_letters_are_replayed_and_dropped_once(self, queue: RedisQueue, proxy: TcpProxy) -> None:
        letters: list[str] = []
        for name in ("task-1", "task-2"):
            await put(queue, inline_task(name))
            for _ in range(3):
                await queue.fail(await lease_one(queue), error(common_pb2.UNSUPPORTED))
            letters.append((await queue.dead_letters(FLOW))[-1].letter_id)
        assert await self.lose(proxy, "replay_letter", queue.replay_dead_letter(FLOW, letters[0])) is TaskState.READY
        await self.lose(proxy, "delete_letter", queue.drop_dead_letter(FLOW, letters[1]))
        assert await queue.dead_letters(FLOW) == ()
        with pytest.raises(NotFound):
            await queue.drop_dead_letter(FLOW, letters[1])


class TestWorkers:
    async def test_two_workers_with_one_name_share_the_work(self, site: Site) -> None:
        story = await site.story(80)
        story.names = ("twin", "twin")

        async def harm(story: Story) -> None:
            await story.reached(1.0)

        await story.run(harm)
        story.check()
        assert set(story.computed.values()) == {1}

    async def test_what_a_dead_worker_held_is_scored_by_another_of_its_name(self, site: Site) -> None:
        bounds = replace(BOUNDS, lease_s=0.4)
        story = await site.story(30, bounds=bounds)
        story.names = ("twin", "twin")
        story.workers_may_start.clear()
        ghost = await site.queue(bounds=bounds)

        async def harm(story: Story) -> None:
            assert await ghost.wait_ready(TEACHER, 30.0)
            held = await ghost.lease(FLOW, "twin", limit=3)
            assert held
            story.workers_may_start.set()
            await story.reached(1.0)
            assert {lease.task_id for lease in held} <= set(story.arrived)

        await story.run(harm)
        story.check()


class TestKeysThatVanish:
    @pytest.mark.parametrize("keys", [[FLOW.ready], [FLOW.out], [FLOW.ready, FLOW.out]])
    async def test_deleted_under_load_they_are_filled_again(self, site: Site, keys: list[str]) -> None:
        story = await site.story(120)
        client = site.client()
        deleted = 0

        async def harm(story: Story) -> None:
            nonlocal deleted
            for tenths in range(1, 8):
                await story.reached(tenths / 10)
                deleted += client.delete(*keys)

        await story.run(harm)
        story.check()
        assert deleted > 0

    async def test_an_emptied_server_is_filled_again(self, site: Site) -> None:
        story = await site.story(60)
        client = site.client()

        async def harm(story: Story) -> None:
            for share in (0.3, 0.6):
                await story.reached(share)
                client.flushall()
                client.script_flush()

        await story.run(harm)
        story.check()
