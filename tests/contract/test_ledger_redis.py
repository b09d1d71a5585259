"""The ledger on a server keeps every rule of the contract, also where replies get lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Then
from preceptor.queue.quotas import Counter, Ledger, Payment, Verdict
from preceptor.queue.redis import Patience, RedisLedger, RedisQueue
from preceptor.queue.redis.loading import scripts
from tests.contract.ledger_suite import LIMITS, LedgerRules, OpenLedger, make_ledger_machine, reserve, settle
from tests.contract.queue_rig import JOB, TEACHER, TENANT, Clock, inline_task, lease_one, put, rows
from tests.contract.settling import SettlesByCommits
from tests.support.tcp_proxy import TcpProxy

PATIENT = Patience(attempt_s=5.0, total_s=30.0)
SCORED = {Counter.REQUESTS: 1, Counter.ROWS: 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


def client_of(server: EmbeddedValkey) -> Any:
    return redis.Redis(port=server.port, password=server.password, socket_timeout=5)


def opener(server: EmbeddedValkey, *, by_commits: bool) -> OpenLedger:
    client = client_of(server)

    @asynccontextmanager
    async def open_redis_ledger(clock: Clock) -> AsyncIterator[Ledger]:
        client.flushall()
        ledger = RedisLedger.open(server.url, server.password, patience=PATIENT, clock=clock)
        queue = await RedisQueue.connect(server.url, password=server.password, clock=clock)
        try:
            yield SettlesByCommits(ledger, queue) if by_commits else ledger
        finally:
            await queue.close()
            await ledger.close()

    return open_redis_ledger


@pytest.fixture(params=["by itself", "by commits"])
def open_ledger(server: EmbeddedValkey, request: pytest.FixtureRequest) -> OpenLedger:
    return opener(server, by_commits=request.param == "by commits")


class TestLedger(LedgerRules): ...


def test_no_history_leaks_or_exceeds(open_ledger: OpenLedger) -> None:
    run_state_machine_as_test(
        make_ledger_machine(open_ledger),
        settings=settings(max_examples=8, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]),
    )


async def test_what_the_server_did_before_its_reply_was_lost_is_done_once(server: EmbeddedValkey) -> None:
    client = client_of(server)
    client.flushall()
    for script in scripts().values():
        client.script_load(script.text)
    async with TcpProxy(server.port) as proxy:
        ledger = RedisLedger.open(f"redis://127.0.0.1:{proxy.port}/0", server.password, patience=PATIENT)
        try:
            proxy.lose_reply(scripts()["quota"].sha1.encode(), times=2)
            (answer,) = await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("a", 600)])
            assert answer.verdict is Verdict.DONE
            (answer,) = await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("b", 401)])
            assert (answer.verdict, answer.used) == (Verdict.TOKENS, 600)
            proxy.lose_reply(scripts()["add_usage"].sha1.encode(), times=2)
            await ledger.add_usage(TEACHER, TENANT, {"job": {Counter.ROWS: 3}}, b"o" * 16)
            assert await ledger.usage(TEACHER, TENANT) == {"job": {Counter.ROWS: 3}}
            assert proxy.lost
        finally:
            await ledger.close()


async def test_a_commit_whose_reply_was_lost_has_settled_and_counted_once_and_with_its_rows(server: EmbeddedValkey) -> None:
    client = client_of(server)
    client.flushall()
    for script in scripts().values():
        client.script_load(script.text)
    async with TcpProxy(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        ledger = RedisLedger.open(url, server.password, patience=PATIENT)
        queue = await RedisQueue.connect(url, password=server.password, patience=PATIENT)
        try:
            await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("rows 0-2", 900), reserve("rows 2-4", 50)])
            await put(queue, inline_task())
            lease = await lease_one(queue)
            proxy.lose_reply(scripts()["commit_rows"].sha1.encode(), times=2)
            kept = (
                await queue.commit(lease, [rows(0, [2, 3])], 0, Then.KEEP, payment=Payment(settle("rows 0-2", 300), SCORED))
            ).lease
            assert proxy.lost
            assert kept is not None
            await queue.commit(kept, [rows(2, [4])], 0, Then.FINISH, payment=Payment(settle("rows 2-4", 20), SCORED))
            (refused,) = await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("more", 681)])
            assert (refused.verdict, refused.used) == (Verdict.TOKENS, 320)
            (all_places,) = await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("all", 680, places=LIMITS.in_flight)])
            assert all_places.verdict is Verdict.DONE
            assert await ledger.usage(TEACHER, TENANT) == {JOB: {Counter.REQUESTS: 2, Counter.ROWS: 4}}
        finally:
            await queue.close()
            await ledger.close()


async def test_every_key_has_a_time_to_live(server: EmbeddedValkey) -> None:
    client = client_of(server)
    client.flushall()
    ledger = RedisLedger.open(server.url, server.password, patience=PATIENT)
    await ledger.apply(TEACHER, TENANT, LIMITS, [reserve("a", 600)])
    await ledger.add_usage(TEACHER, TENANT, {"job": {Counter.ROWS: 3}}, b"o" * 16)
    await ledger.close()
    assert {key.decode(): client.pttl(key) > 60_000 for key in client.scan_iter("*")} == {
        f"pc1:{{{TEACHER}}}:quota:{TENANT}": True,
        f"pc1:{{{TEACHER}}}:usage:{TENANT}": True,
    }
