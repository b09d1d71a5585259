"""Status, /v1/status, /metrics and `preceptor status` tell of one service what is true of it, while work waits and after it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from preceptor.cli import run
from preceptor.client import AsyncTeacherClient, ScoreItem, ScoreOptions
from preceptor.config import TeacherSettings
from preceptor.queue import Flow, MemoryQueue
from preceptor.types import BudgetStatus, FlowStatus, QueueStatus, Sequence, ServiceState, TeacherStatus, Want
from preceptor_proto.v1 import common_pb2
from preceptor_serving.auth.identity import Identity, Scope
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.pool import PoolPolicy
from preceptor_teacher.service import TeacherService
from preceptor_teacher.status import visible_to
from preceptor_teacher.status_metrics import ENGINE_COUNTERS, ENGINE_GAUGES, FLOW_GAUGES, QUEUE_GAUGES
from tests.contract.queue_rig import error, inline_task, lease_one, put

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
TOKENS = 7  # that scoring `item` computes


class HeldEngine(FakeEngine):
    """Computes nothing before `go`."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__(FakeOptions(name="tiny"))
        self._go = go

    def score(self, items: Any, version: Any = None) -> Any:
        assert self._go.wait(60.0)
        return super().score(items, version)


def item(number: int) -> ScoreItem:
    return ScoreItem(Sequence.of([1, 2, 3], [number, 5, 6, 7]), Want(sampled=True))


def service(go: threading.Event, queue: MemoryQueue) -> TeacherService:
    spec = TeacherSpec(EngineSpec("tiny", "fake", {"name": "tiny"}), ("other-name",))
    one_by_one = PoolPolicy(batch_tasks=1, calls_in_flight=1)
    return TeacherService((spec,), lambda spec, context: InlineEngine(lambda: HeldEngine(go)), one_by_one, queue)


async def seen(client: AsyncTeacherClient, condition: Any) -> TeacherStatus:
    """The first status that is as the condition says."""
    async with asyncio.timeout(20):
        while not condition(found := await client.status(deadline_s=10)):  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)
    return found


async def on_metrics(house: RunningService) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://127.0.0.1:{house.rest_port}/metrics")).text


async def test_what_waits_and_what_was_served_is_told_by_job(capsys: pytest.CaptureFixture[str]) -> None:
    go = threading.Event()
    dead = Flow("other-name", "local", "buried")
    queue = MemoryQueue()
    task = inline_task("task-1")
    task.teacher.teacher = dead.teacher
    await put(queue, task, dead)
    for _ in range(3):
        await queue.fail(await lease_one(queue, flow=dead), error(common_pb2.UNSUPPORTED))
    async with running(service(go, queue), TeacherSettings(grpc_port=0, rest_port=0)) as house:
        async with AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
            calls = [asyncio.create_task(client.score("tiny", [item(0)], ScoreOptions(job="early", band=1), deadline_s=60))]
            await seen(client, lambda status: status.engines[0].running_tasks == 1)
            for n, job in enumerate(["early", "late"], start=1):
                calls.append(asyncio.create_task(client.score("tiny", [item(n)], ScoreOptions(job=job, band=1), deadline_s=60)))
            held = await seen(
                client, lambda status: status.engines[0].running_tasks == 1 and status.engines[0].waiting_tasks == 2
            )
            assert 'preceptor_flow_queued_tasks{band="1",job="late",teacher="tiny",tenant="local"} 1.0' in await on_metrics(house)
            go.set()
            await asyncio.gather(*calls)
            done = await client.status()
        told = await asyncio.to_thread(run, ["status", "--json", "--teacher", f"127.0.0.1:{house.grpc_port}"])
        text = await on_metrics(house)
    assert held.state is ServiceState.READY
    waiting = {(flow.job, flow.band): flow.queued_tasks for flow in held.flows}
    assert waiting == {("early", 1): 1, ("late", 1): 1}
    assert all(flow.oldest_wait_s > 0 for flow in held.flows)
    (buried,) = held.queues
    assert (buried.teacher, buried.job, buried.dead_letters) == ("other-name", "buried", 1)
    assert {flow.job: flow.served_tokens for flow in done.flows} == {"early": 2 * TOKENS, "late": TOKENS}
    assert (done.engines[0].tokens_computed, done.engines[0].up, done.engines[0].restarts) == (3 * TOKENS, True, 0)
    assert f'preceptor_computed_tokens_total{{teacher="tiny"}} {3.0 * TOKENS}' in text
    assert 'preceptor_queue_dead_letters{job="buried",teacher="other-name",tenant="local"} 1.0' in text
    assert told == 0
    out = capsys.readouterr().out  # the service's log lines are around it
    document, _ = json.JSONDecoder().raw_decode(out, out.index("{\n"))
    jobs = {row["job"]: row["served_tokens"] for row in document["jobs"]}
    assert jobs == {"early": 2 * TOKENS, "late": TOKENS, "buried": 0}


async def test_rest_tells_the_same_and_cache_hits_are_counted() -> None:
    go = threading.Event()
    go.set()
    async with running(service(go, MemoryQueue()), TeacherSettings(grpc_port=0, rest_port=0)) as house:
        async with AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
            for _ in range(3):
                await client.score("tiny", [item(1)], deadline_s=60)
            direct = await client.status()
        async with httpx.AsyncClient() as http:
            friendly = (await http.get(f"http://127.0.0.1:{house.rest_port}/v1/status")).json()
    (engine,) = direct.engines
    assert (engine.cache_hits, engine.cache_misses, engine.tokens_computed) == (2, 1, TOKENS)
    assert friendly["engines"][0]["cache_hits"] == 2
    assert friendly["state"] == "ready"
    assert friendly["worker"] == direct.worker
    assert [one["job"] for one in friendly["flows"]] == [flow.job for flow in direct.flows]


async def test_a_flood_of_names_does_not_grow_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preceptor_teacher.pool.KEPT_FLOWS", 2)
    go = threading.Event()
    go.set()
    async with (
        running(service(go, MemoryQueue()), TeacherSettings(grpc_port=0, rest_port=0)) as house,
        AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client,
    ):
        for n, job in enumerate(["a", "b", "a", "c"]):
            await client.score("tiny", [item(n)], ScoreOptions(job=job), deadline_s=60)
        assert {flow.job for flow in (await client.status()).flows} == {"a", "c"}


def test_the_metrics_page_lists_what_is_exported() -> None:
    declared = dict.fromkeys((*ENGINE_GAUGES, *FLOW_GAUGES, *QUEUE_GAUGES), "gauge")
    declared |= {f"{name}_total": "counter" for name in ENGINE_COUNTERS}
    told = dict(re.findall(r"^\| preceptor_(\w+) \| (gauge|counter) \| teacher", PAGE.read_text(), re.MULTILINE))
    assert told == declared


def test_a_key_sees_its_own_tenants_jobs_and_an_operators_key_all() -> None:
    flow = FlowStatus("tiny", "acme", "night", 0, 1.0, 1, 1.0, 0.0, 0.0, 1)
    queue = QueueStatus("tiny", "acme", "night", 1, 0, 0, 0, 0, 0)
    budget = BudgetStatus("judge", "acme", "night", 1, 0.5, 0.0, 0.0, 2.0)
    budgets = (replace(budget, tenant="", job=""), budget, replace(budget, tenant="umbrella"))
    flows = (flow, replace(flow, tenant="umbrella"))
    status = TeacherStatus(ServiceState.READY, "w", flows=flows, queues=(queue,), budgets=budgets)

    def jobs(tenant: str, *scopes: Scope, job: str | None = None) -> list[str]:
        found = visible_to(Identity(tenant, "key", frozenset(scopes), job), status)
        return [f"{one.tenant}/{one.job}" for one in (*found.flows, *found.queues, *found.budgets)]

    assert jobs("acme", Scope.STATUS) == ["acme/night"] * 3
    assert jobs("acme", Scope.STATUS, job="day") == []
    assert jobs("umbrella", Scope.STATUS) == ["umbrella/night"] * 2
    everything = ["acme/night", "umbrella/night", "acme/night", "/", "acme/night", "umbrella/night"]
    assert jobs("other", Scope.STATUS, Scope.METRICS) == everything
