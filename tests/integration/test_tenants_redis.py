"""Tenants on a real server: quotas, usage and clocks that two teachers share, life without it, the rights of one user."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from preceptor.cli import run
from preceptor.client import AsyncTeacherClient, ScoreItem, ScoreOptions, Target
from preceptor.config import TeacherSettings
from preceptor.errors import Exhausted, InvalidArgument, PermissionDenied, PreceptorError
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import ClockCharge, Flow, Lease, LogName, ScoreStream, Subscriber, Then
from preceptor.queue.keys import flows_key, leases_key, quota_key
from preceptor.queue.quotas import QuotaLimits
from preceptor.queue.redis import Patience, RedisQueue
from preceptor.types import Scored, Sequence, Want
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import issue_key, set_terms
from preceptor_serving.auth.redis_acl import acl_user
from preceptor_serving.auth.terms import Terms
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService
from tests.contract.queue_rig import TEACHER, inline_task, put, rows

TOKENS = 7
SCORE = frozenset({Scope.SCORE})


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def item(number: int) -> ScoreItem:
    return ScoreItem(Sequence.of([1, 2, 3], [number, 5, 6, 7]), Want(sampled=True))


@asynccontextmanager
async def teacher(server: EmbeddedValkey, keys: Path) -> AsyncGenerator[RunningService]:
    """One of any number of teachers on the same server; without a score cache, so that every item is work."""
    spec = TeacherSpec(EngineSpec("fake", "fake", {"name": "fake"}), ())
    service = TeacherService((spec,), lambda spec, context: InlineEngine(lambda: FakeEngine(FakeOptions(**spec.options))))
    wanted = TeacherSettings(
        grpc_port=0,
        rest_port=0,
        key_file=keys,
        redis_url=server.url,
        redis_password=server.password,  # pyright: ignore[reportArgumentType]
        score_cache_memory_bytes=0,
    )
    async with running(service, wanted) as house:
        yield house


async def score(house: RunningService, key: str, *items: ScoreItem, deadline_s: float = 60.0) -> list[Any]:
    async with AsyncTeacherClient(Target(f"127.0.0.1:{house.grpc_port}", api_key=key)) as client:
        return await client.score("fake", items, ScoreOptions(job="job"), deadline_s=deadline_s)


async def rest(house: RunningService, path: str, key: str = "") -> Any:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        return (await http.get(path, headers={"X-API-Key": key})).json()


async def until(look: Any) -> None:
    async with asyncio.timeout(60):
        while not await look():  # noqa: ASYNC110 - another process changes it, which tells nobody
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_two_teachers_share_a_quota_and_usage_outlives_them(server: EmbeddedValkey, client: Any, keys: Path) -> None:
    key, _ = issue_key(keys, "acme", SCORE)
    set_terms(keys, "acme", lambda _: Terms(QuotaLimits(tokens_per_minute=4 * TOKENS)))
    async with teacher(server, keys) as one, teacher(server, keys) as other:
        await score(one, key, item(0), item(1))
        await score(other, key, item(2))
        with pytest.raises(PreceptorError) as refused:
            await score(one, key, item(3), item(4), deadline_s=0.3)
        full = refused.value if isinstance(refused.value, Exhausted) else refused.value.__cause__
        assert isinstance(full, Exhausted)
        assert (full.field, full.limit) == ("quota.tokens_per_minute", str(4 * TOKENS))
        assert isinstance((await score(other, key, item(5)))[0], Scored)
    async with teacher(server, keys) as third:
        answer = await rest(third, "/v1/usage", key)
        assert (answer["kept_by"], answer["since"]) == ("server", None)
        assert (answer["total"]["requests"], answer["total"]["charged_tokens"]) == (3, 4 * TOKENS)
        assert answer["total"]["refusals"] >= 1


@pytest.mark.slow
async def test_two_teachers_share_the_clocks_of_their_flows(server: EmbeddedValkey, client: Any, keys: Path) -> None:
    key, _ = issue_key(keys, "acme", SCORE, weight=2.0)
    async with teacher(server, keys) as one, teacher(server, keys) as other:

        async def clock() -> float:
            queue = one.service._queue  # pyright: ignore[reportAttributeAccessIssue]
            flow = Flow("fake", "acme", "job")
            return (await queue.advance_clocks("fake", [ClockCharge(flow, 0, 0.0, 0.0, 0.0)]))[flow, 0]

        await score(one, key, item(0))
        await until(clock)
        alone = await clock()
        await score(other, key, item(1))

        async def both() -> bool:
            return await clock() >= 2 * alone

        await until(both)
        assert alone * 2.0 >= TOKENS  # its cost over a weight of 2


@pytest.mark.slow
async def test_without_its_server_a_teacher_says_so_and_serves_on(server: EmbeddedValkey, client: Any, keys: Path) -> None:
    key, _ = issue_key(keys, "acme", SCORE)
    set_terms(keys, "acme", lambda _: Terms(QuotaLimits(tokens_per_minute=1000)))
    async with teacher(server, keys) as house:

        async def troubles() -> set[str]:
            ready = await rest(house, "/readyz")
            assert ready["serving"]
            return {name for name in ready["reasons"] if name in ("quotas", "clocks:fake")}

        async def both() -> bool:
            return len(await troubles()) == 2

        async def neither() -> bool:
            await score(house, key, item(4))
            return not await troubles()

        await score(house, key, item(0))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert isinstance((await score(house, key, item(1)))[0], Scored)
            await until(both)
            assert (await rest(house, "/readyz"))["state"] == "degraded"
            assert isinstance((await score(house, key, item(2)))[0], Scored)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until(neither)


# ---------------------------------------------------------------- the rights of one user

MINE, THEIRS = Flow(TEACHER, "acme", "job"), Flow(TEACHER, "umbrella", "job")


@pytest.fixture
def user(client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """The tenant acme, by the line that the command prints; its password."""
    assert run(["keys", "redis-acl", "acme", "--out", str(tmp_path / "password")]) == 0
    line = capsys.readouterr().out.strip()
    password = (tmp_path / "password").read_text().strip()
    assert password not in line
    client.execute_command("ACL", "SETUSER", *_words(line)[1:])
    yield password
    client.execute_command("ACL", "DELUSER", "acme")


def _words(line: str) -> list[str]:
    """As the server splits them: a selector in parentheses is one word."""
    words: list[str] = []
    for word in line.split():
        if words and words[-1].startswith("(") and not words[-1].endswith(")"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


@asynccontextmanager
async def queue_of(server: EmbeddedValkey, url: str, password: str) -> AsyncGenerator[RedisQueue]:
    queue = await RedisQueue.connect(url, password=password, patience=Patience(total_s=5.0))
    try:
        yield queue
    finally:
        await queue.close()


async def test_a_tenants_user_does_all_that_its_learner_does(server: EmbeddedValkey, client: Any, user: str) -> None:
    url = f"redis://acme@127.0.0.1:{server.port}/0"
    async with queue_of(server, url, user) as queue, queue_of(server, server.url, server.password) as operator:
        stream = ScoreStream(queue, MINE)
        log = LogName("acme", "job", "run/1/0/0/0")
        await queue.subscribe(log, Subscriber(TEACHER, "task-1"))
        await queue.read(log)
        for number in range(3):
            await stream.open(inline_task(f"task-{number}"))
        taking = asyncio.create_task(stream.take(timeout_s=30.0))
        leases: tuple[Lease, ...] = await operator.lease(MINE, "worker", limit=2)
        await operator.commit(leases[0], [rows(0, list(range(5000)))], 0, Then.FINISH)
        taken = await taking
        assert [each.task_id for each in taken.deliveries] == [leases[0].task_id]
        await stream.acknowledge(taken)
        await stream.cancel(leases[1].task_id)
        await stream.poke_all()
        await queue.reopen(MINE, inline_task("task-2"), 0)
        assert await queue.dead_letters(MINE) == ()
        await queue.unsubscribe(log, Subscriber(TEACHER, "task-1"))


async def test_it_reads_and_changes_nothing_of_others(server: EmbeddedValkey, client: Any, user: str) -> None:
    url = f"redis://acme@127.0.0.1:{server.port}/0"
    async with queue_of(server, url, user) as queue, queue_of(server, server.url, server.password) as operator:
        await put(operator, inline_task(), THEIRS)
        log = LogName("umbrella", "job", "run/1/0/0/0")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: put(queue, inline_task("new"), THEIRS),
            lambda: queue.poke(THEIRS, "task-1"),
            lambda: queue.cancel(THEIRS, "task-1"),
            lambda: queue.task_info(THEIRS, "task-1"),
            lambda: queue.read_out(THEIRS),
            lambda: queue.dead_letters(THEIRS),
            lambda: queue.read(log),
            lambda: queue.lease(MINE, "not a worker"),
            lambda: queue.ready_bands(TEACHER),
        ]
        for forbidden in calls:
            with pytest.raises(PermissionDenied):
                await forbidden()
    raw = redis.Redis(port=server.port, username="acme", password=user, socket_timeout=5)
    for command in (
        ("GET", "other"),
        ("HGETALL", flows_key(TEACHER)),
        ("DEL", flows_key(TEACHER)),
        ("ZRANGE", leases_key(TEACHER), 0, -1),
        ("HGETALL", quota_key(TEACHER, "acme")),
        ("DEL", quota_key(TEACHER, "acme")),
        ("SCAN", 0),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("EVAL", "return redis.call('HGETALL', KEYS[1])", 1, flows_key(TEACHER)),
        ("EVAL", "return redis.call('DEL', KEYS[1])", 1, THEIRS.task("task-1")),
        ("SUBSCRIBE", THEIRS.out),
        ("PUBLISH", THEIRS.out, ""),
    ):
        with pytest.raises(redis.ResponseError, match=r"(?i)permission|The user executing the script can.t"):
            raw.execute_command(*command)
    raw.close()
    info = client.hget(THEIRS.task("task-1"), "state")
    assert info == b"ready"


@pytest.mark.parametrize("tenant", ["quota", "usage", "a*", "a b", "~*"])
def test_names_that_would_open_more_than_one_tenants_keys_are_refused(tenant: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        acl_user(tenant, "password")
    assert refused.value.field == "tenant"
