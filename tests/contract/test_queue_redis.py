"""The Redis queue keeps every rule of the contract, on a server in cluster mode that refuses scripts across slots."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from preceptor.local.ports import free_ports
from preceptor.local.valkey import EmbeddedValkey, ValkeySettings
from preceptor.queue import Queue, QueueBounds
from preceptor.queue.redis import RedisQueue
from tests.contract.queue_machine import make_machine
from tests.contract.queue_overview import OverviewRules
from tests.contract.queue_rig import Clock, Lose, OpenQueue
from tests.contract.queue_suite import CommitRules, LeaseRules, LogRules, PoisonRules, ResultRules, StoryRules, TaskRules, rig

__all__ = ["rig"]

CLUSTER = ("cluster-enabled yes", "cluster-require-full-coverage no")
URL_VARIABLE = "PRECEPTOR_TEST_REDIS_URL"


@dataclass(frozen=True)
class Server:
    url: str
    password: str | None

    def client(self) -> Any:
        return redis.Redis.from_url(self.url, password=self.password, socket_timeout=5)


@pytest.fixture(scope="session", params=["embedded", *([URL_VARIABLE] if URL_VARIABLE in os.environ else [])])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey of our own in cluster mode with all slots; and the server of the variable, whose pc1 keys are deleted."""
    if request.param == URL_VARIABLE:
        yield Server(os.environ[URL_VARIABLE], os.environ.get("PRECEPTOR_TEST_REDIS_PASSWORD"))
        return
    bus = f"cluster-port {free_ports(1)[0]}"  # its default, 10,000 above the port, may not exist
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey"), ValkeySettings(more=(*CLUSTER, bus))) as valkey:
        found = Server(valkey.url, valkey.password)
        found.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield found


class Time:
    """Moves the server's time to live along with the test's clock: the protocol itself only reads the clock."""

    def __init__(self, clock: Clock, server: Server) -> None:
        self.clock = clock
        self.seen_ms = int(clock() * 1000)
        self.client = server.client()

    def __call__(self) -> float:
        passed_ms = int(self.clock() * 1000) - self.seen_ms
        if passed_ms:
            self.seen_ms += passed_ms
            self.age(passed_ms)
        return self.clock()

    def age(self, passed_ms: int) -> None:
        for key in self.client.scan_iter("pc1:*", count=1000):
            left_ms = self.client.pttl(key)
            if left_ms > 0:
                self.client.pexpire(key, left_ms - passed_ms)


def opener(server: Server) -> OpenQueue:
    @asynccontextmanager
    async def open_redis_queue(clock: Clock, bounds: QueueBounds) -> AsyncIterator[Queue]:
        time = Time(clock, server)
        for key in time.client.scan_iter("pc1:*", count=1000):
            time.client.delete(key)
        queue = await RedisQueue.connect(server.url, password=server.password, bounds=bounds, clock=time)
        try:
            yield queue
        finally:
            await queue.close()
            time.client.close()

    return open_redis_queue


def loser(server: Server) -> Lose:
    client = server.client()
    return lambda _queue, key: bool(client.delete(key))


@pytest.fixture
def open_queue(server: Server) -> OpenQueue:
    return opener(server)


@pytest.fixture
def lose_key(server: Server) -> Lose:
    return loser(server)


class TestLogs(LogRules): ...


class TestTasks(TaskRules): ...


class TestLeases(LeaseRules): ...


class TestCommits(CommitRules): ...


class TestPoison(PoisonRules): ...


class TestOverview(OverviewRules): ...


class TestResults(ResultRules): ...


class TestStories(StoryRules): ...


def test_no_history_loses_repeats_or_reorders_a_row(server: Server) -> None:
    run_state_machine_as_test(
        make_machine(opener(server), loser(server)),
        settings=settings(max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)),
    )
