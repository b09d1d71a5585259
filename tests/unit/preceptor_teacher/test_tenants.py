"""Tenants at a real teacher service over a fake engine: quotas, weights, bands, room for everybody, usage."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter as Tally
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from preceptor.client import AsyncTeacherClient, ScoreItem, ScoreOptions, Target
from preceptor.config import TeacherSettings
from preceptor.errors import Exhausted, PermissionDenied, PreceptorError, TooLarge
from preceptor.queue import Flow, MemoryQueue, ScoreStream
from preceptor.queue.quotas import Counter, QuotaLimits
from preceptor.types import Scored, Sequence, Want
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.issue import issue_key, set_terms
from preceptor_serving.auth.terms import Terms
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_serving.scheduler.types import FlowKey
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.pool import PoolPolicy
from preceptor_teacher.service import TeacherService
from preceptor_teacher.worker import WorkerPolicy
from tests.unit.preceptor_teacher.test_worker import task

TOKENS = 7  # that scoring `item` computes
ONE_BY_ONE = PoolPolicy(batch_tasks=1, calls_in_flight=1)
QUICK = WorkerPolicy(wait_ready_s=0.05, reclaim_s=0.05, heartbeat_s=0.05, retry_pause_s=0.01, max_pause_s=0.1)
SCORE, METRICS = frozenset({Scope.SCORE}), frozenset({Scope.METRICS})


def item(job: int, number: int = 0) -> ScoreItem:
    """Its second token says whose it is; no two are equal, so the score cache knows none."""
    return ScoreItem(Sequence.of([1, job, 3 + number // 50], [number % 50, 5, 6, 7]), Want(sampled=True))


class HeldEngine(FakeEngine):
    """Computes nothing before `go`."""

    def __init__(self, options: FakeOptions, go: threading.Event) -> None:
        super().__init__(options)
        self.go = go

    def score(self, items: Any, version: Any = None) -> Any:
        assert self.go.wait(60.0)
        return super().score(items, version)

    @property
    def jobs(self) -> list[int]:
        """Whose items it computed, in order."""
        return [int(one.sequence.ids[1]) for call in self.calls for one in call]


class Site:
    """A teacher with a key file; its engine waits for `go`, which is set unless a test clears it."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys.yaml"
        self.go = threading.Event()
        self.go.set()
        self.house: RunningService
        self.engine: HeldEngine

    def key(self, tenant: str, scopes: frozenset[Scope] = SCORE, **own: Any) -> str:
        return issue_key(self.keys, tenant, scopes, **own)[0]

    def limit(self, tenant: str, **terms: Any) -> None:
        set_terms(self.keys, tenant, lambda _: Terms(**terms))

    def _place(self, spec: EngineSpec, context: object) -> InlineEngine:
        def create() -> FakeEngine:
            self.engine = HeldEngine(FakeOptions(**spec.options), self.go)
            return self.engine

        return InlineEngine(create)

    @asynccontextmanager
    async def opened(
        self, policy: PoolPolicy | None = None, queue: Any = None, worker: WorkerPolicy = QUICK, **settings: Any
    ) -> AsyncGenerator[None]:
        spec = TeacherSpec(EngineSpec("fake", "fake", {"name": "fake"}), ("default",))
        service = TeacherService((spec,), self._place, policy, queue, worker)
        wanted = TeacherSettings(grpc_port=0, rest_port=0, key_file=self.keys, **settings)
        async with running(service, wanted) as self.house:
            try:
                yield
            finally:
                self.go.set()

    @property
    def scheduler(self) -> Any:
        return self.house.service.find("fake").pool.scheduler  # pyright: ignore[reportAttributeAccessIssue]

    async def score(self, key: str, *items: ScoreItem, job: str = "", band: int = 0, deadline_s: float = 60.0) -> list[Any]:
        async with AsyncTeacherClient(Target(f"127.0.0.1:{self.house.grpc_port}", api_key=key)) as client:
            return await client.score("fake", items, ScoreOptions(job=job, band=band), deadline_s=deadline_s)

    async def refusal(self, key: str, *items: ScoreItem, **more: Any) -> PreceptorError:
        """What a client is told that does not wait: one attempt's error."""
        with pytest.raises(PreceptorError) as refused:
            await self.score(key, *items, deadline_s=0.4, **more)
        cause = refused.value.__cause__
        return cause if isinstance(cause, PreceptorError) else refused.value

    async def post(self, key: str, number: int) -> httpx.Response:
        body = {"teacher": "fake", "items": [{"context": [1, 2], "response": [number, 5]}], "want": {"sampled": True}}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.house.rest_port}") as http:
            return await http.post("/v1/score", json=body, headers={"X-API-Key": key})

    async def usage(self, key: str, **params: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.house.rest_port}") as http:
            return await http.get("/v1/usage", params=params, headers={"X-API-Key": key})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the scheduler, which tells nobody
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------- quotas


async def test_tokens_of_a_minute_are_refused_by_field_limit_and_time_at_both_doors(site: Site) -> None:
    key, other = site.key("acme"), site.key("umbrella")
    site.limit("acme", limits=QuotaLimits(tokens_per_minute=3 * TOKENS))
    async with site.opened():
        assert all(isinstance(one, Scored) for one in await site.score(key, item(1, 0), item(1, 1), item(1, 2)))
        told = await site.refusal(key, item(1, 3))
        assert isinstance(told, Exhausted)
        assert (told.field, told.value, told.limit) == ("quota.tokens_per_minute", str(4 * TOKENS), str(3 * TOKENS))
        assert 0 < (told.retry_after_s or 0) <= 61
        reply = await site.post(key, 9)
        assert (reply.status_code, reply.json()["field"]) == (429, "quota.tokens_per_minute")
        assert 1 <= int(reply.headers["retry-after"]) <= 61
        assert isinstance((await site.score(other, item(2)))[0], Scored)


async def test_known_scores_cost_nothing(site: Site) -> None:
    key = site.key("acme")
    site.limit("acme", limits=QuotaLimits(tokens_per_minute=TOKENS))
    async with site.opened():
        for _ in range(3):
            assert isinstance((await site.score(key, item(1)))[0], Scored)
        usage = (await site.usage(key)).json()["total"]
        assert (usage["requests"], usage["rows"], usage["charged_tokens"]) == (3, 12, TOKENS)
        assert (usage["computed_tokens"], usage["cached_tokens"]) == (TOKENS, 2 * TOKENS)


async def test_the_usage_of_a_teacher_is_what_was_counted_under_all_of_its_names(site: Site) -> None:
    key = site.key("acme")
    async with site.opened():
        await site.score(key, item(1), job="both")
        for job in ("both", "queued"):
            site.house.service.accounts.count(FlowKey("default", "acme", job, 0), {Counter.ROWS: 10})  # pyright: ignore[reportAttributeAccessIssue]
        answer = (await site.usage(key)).json()
        assert [(row["teacher"], row["job"], row["rows"]) for row in answer["jobs"]] == [
            ("fake", "both", 14),
            ("fake", "queued", 10),
        ]
        assert answer["total"]["rows"] == 24


async def test_what_asks_for_more_than_the_whole_quota_is_never_told_to_wait(site: Site) -> None:
    key = site.key("acme")
    site.limit("acme", limits=QuotaLimits(tokens_per_minute=TOKENS, in_flight=1))
    async with site.opened():
        told = await site.refusal(key, item(1, 0), item(1, 1))
        assert isinstance(told, TooLarge)
        assert told.field == "quota.tokens_per_minute"


async def test_places_are_given_back_by_success_by_failure_and_by_a_caller_who_leaves(site: Site) -> None:
    key = site.key("acme")
    site.limit("acme", limits=QuotaLimits(in_flight=2))
    async with site.opened(ONE_BY_ONE):
        site.go.clear()
        leaver = asyncio.create_task(site.score(key, item(1, 0), item(1, 1)))
        await until(lambda: site.scheduler.running_tasks and site.scheduler.waiting_tasks)
        told = await site.refusal(key, item(1, 2))
        assert (told.field, told.limit) == ("quota.in_flight", "2")
        leaver.cancel()
        await asyncio.wait({leaver})
        site.go.set()
        for number in (3, 5):
            assert all(isinstance(one, Scored) for one in await site.score(key, item(1, number), item(1, number + 1)))


async def test_queued_work_of_one_tenant_waits_for_its_quota_and_of_others_does_not(site: Site) -> None:
    site.limit("acme", limits=QuotaLimits(tokens_per_minute=TOKENS))
    queue = MemoryQueue()
    async with site.opened(queue=queue):
        streams = {tenant: ScoreStream(queue, Flow("fake", tenant, "job")) for tenant in ("acme", "umbrella")}
        for number in range(3):
            for tenant, stream in streams.items():
                named = task(f"{tenant}-{number}", Want(sampled=True), inline=_sequence(number))
                named.teacher.teacher = "fake"
                await stream.open(named)
        done = {tenant: await _finished(stream, 1 if tenant == "acme" else 3) for tenant, stream in streams.items()}
        assert {tenant: len(names) for tenant, names in done.items()} == {"acme": 1, "umbrella": 3}
        assert Counter.REFUSALS in (await site.house.service.accounts.book.usage("fake", "acme"))["job"]  # pyright: ignore[reportAttributeAccessIssue]
        waiting = [await queue.task_info(Flow("fake", "acme", "job"), f"acme-{number}") for number in range(3)]
        assert [info.strikes for info in waiting if info is not None] == [0, 0, 0]
    await queue.close()


async def test_no_flood_of_queued_tasks_keeps_a_flow_out_of_the_worker(site: Site) -> None:
    """Two leases for six flows, whose names would order them: each gets its turn."""
    queue = MemoryQueue()
    site.key("acme")
    flows = [Flow("fake", "acme", f"job-{number}") for number in range(6)]
    for flow in flows:
        for number in range(8):
            named = task(f"task-{number}", Want(sampled=True), inline=_sequence(10 * flows.index(flow) + number))
            named.teacher.teacher = "fake"
            await ScoreStream(queue, flow).open(named)
    async with site.opened(ONE_BY_ONE, queue, replace(QUICK, leases=2, leases_per_flow=2)):
        async with asyncio.timeout(60):
            while sum(served := [len(await queue.read_out(flow)) for flow in flows]) < 24:  # noqa: ASYNC110 - looked at without taking
                await asyncio.sleep(0.005)
    await queue.close()
    assert min(served) >= 2, served


def _sequence(number: int) -> Any:
    from preceptor import wire

    return wire.sequence_to_proto(item(1, number).sequence)


async def _finished(stream: ScoreStream, count: int) -> set[str]:
    done: set[str] = set()
    async with asyncio.timeout(60):
        while len(done) < count:
            taken = await stream.take(timeout_s=0.2)
            done |= {each.task_id for each in taken.deliveries if each.finished}
            await stream.acknowledge(taken)
    return done


# ---------------------------------------------------------------- weights, bands, room


async def test_jobs_are_served_by_the_weights_of_their_keys(site: Site) -> None:
    weights, each = {1: 1.0, 2: 2.0, 4: 4.0}, 40
    keys = {job: site.key("acme", job=f"job-{job}", weight=weight) for job, weight in weights.items()}
    other_key = site.key("other")
    async with site.opened(ONE_BY_ONE):
        site.go.clear()
        first = asyncio.create_task(site.score(other_key, item(9)))
        await until(lambda: site.scheduler.running_tasks)
        calls = [asyncio.create_task(site.score(keys[job], *(item(job, n) for n in range(each)))) for job in weights]
        await until(lambda: site.scheduler.waiting_tasks == each * len(weights))
        site.go.set()
        await asyncio.gather(first, *calls)
    served: Tally[int] = Tally()
    for job in site.engine.jobs[1:]:
        served[job] += 1
        if max(served.values()) == each:
            break
        for (one, heavy), (other, light) in itertools.combinations(weights.items(), 2):
            gap = served[one] / heavy - served[other] / light
            assert abs(gap) <= 1 / heavy + 1 / light, served
    assert served[4] == each


async def test_an_urgent_band_goes_first_and_only_for_keys_that_may_use_it(site: Site) -> None:
    calm, urgent, other_key = site.key("calm", bands=(3,)), site.key("urgent"), site.key("other")
    async with site.opened(ONE_BY_ONE):
        site.go.clear()
        first = asyncio.create_task(site.score(other_key, item(9)))
        await until(lambda: site.scheduler.running_tasks)
        calls = [asyncio.create_task(site.score(calm, *(item(1, n) for n in range(4))))]
        await until(lambda: site.scheduler.waiting_tasks == 4)
        calls.append(asyncio.create_task(site.score(urgent, *(item(2, n) for n in range(4)))))
        await until(lambda: site.scheduler.waiting_tasks == 8)
        told = await site.refusal(calm, item(1, 5), band=1)
        assert isinstance(told, PermissionDenied)
        assert (told.field, told.value, told.limit) == ("band", "1", "3")
        site.go.set()
        await asyncio.gather(first, *calls)
    assert site.engine.jobs == [9, 2, 1, 2, 2, 2, 1, 1, 1]  # one task for the guard of the lower band


async def test_a_flood_is_refused_with_its_place_while_others_still_enter(site: Site) -> None:
    key = site.key("acme")
    async with site.opened(ONE_BY_ONE, max_queue_tasks=16):
        site.go.clear()
        first = asyncio.create_task(site.score(key, item(9), job="first"))
        await until(lambda: site.scheduler.running_tasks)
        calls = [asyncio.create_task(site.score(key, *(item(1, n) for n in range(8)), job="flood"))]
        await until(lambda: site.scheduler.waiting_tasks == 8)
        told = await site.refusal(key, item(1, 8), job="flood")
        assert isinstance(told, Exhausted)
        assert (told.field, told.limit, told.queue_position) == ("queue.flow_tasks", "8", 8)
        assert told.hint.startswith("8 tasks and ")
        assert (told.retry_after_s or 0) > 0
        calls += [asyncio.create_task(site.score(key, item(2 + n), job=f"small-{n}")) for n in range(4)]
        await until(lambda: site.scheduler.waiting_tasks == 12)
        site.go.set()
        await asyncio.gather(first, *calls)


async def test_calls_beyond_the_bound_are_refused_by_name_and_probes_are_not(site: Site) -> None:
    key = site.key("acme", frozenset({Scope.SCORE, Scope.METRICS}))
    async with site.opened(ONE_BY_ONE, max_calls=2):
        site.go.clear()
        calls = [asyncio.create_task(site.score(key, item(1, number))) for number in range(2)]
        await until(lambda: site.house.frame.in_flight == 2)
        reply = await site.post(key, 7)
        assert (reply.status_code, reply.json()["field"], reply.json()["limit"]) == (429, "calls", "2")
        assert (await site.refusal(key, item(1, 8))).field == "calls"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.house.rest_port}") as http:
            assert (await http.get("/readyz")).status_code == 200
            assert (await http.get("/metrics", headers={"X-API-Key": key})).status_code == 200
        site.go.set()
        await asyncio.gather(*calls)
        assert (await site.post(key, 7)).status_code == 200


# ---------------------------------------------------------------- usage


async def test_usage_is_told_to_its_tenant_and_to_those_who_may_see_all(site: Site) -> None:
    bound, key, stranger = site.key("acme", job="run-7"), site.key("acme"), site.key("umbrella")
    watcher = site.key("ops", METRICS)
    site.limit("acme", limits=QuotaLimits(tokens_per_minute=100, in_flight=9))
    async with site.opened():
        await site.score(bound, item(1, 0), item(1, 1))
        await site.score(key, item(1, 2), job="run-8")
        answer = (await site.usage(key)).json()
        assert (answer["tenant"], answer["kept_by"], answer["terms"]["tokens_per_minute"]) == ("acme", "process", 100)
        assert answer["since"] is not None
        assert {job["job"]: (job["requests"], job["rows"], job["charged_tokens"]) for job in answer["jobs"]} == {
            "run-7": (1, 8, 2 * TOKENS),
            "run-8": (1, 4, TOKENS),
        }
        assert answer["total"]["charged_tokens"] == 3 * TOKENS
        assert [job["job"] for job in (await site.usage(bound)).json()["jobs"]] == ["run-7"]
        assert (await site.usage(stranger)).json()["jobs"] == []
        refused = await site.usage(stranger, tenant="acme")
        assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
        assert (await site.usage(watcher, tenant="acme")).json()["total"] == answer["total"]
        assert (await site.usage("pk_nobody")).status_code == 401
        assert (await site.usage(watcher, tenant="a b")).status_code == 400
