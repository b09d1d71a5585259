"""How a service stops, told by real processes and real signals."""

from __future__ import annotations

import asyncio
import signal

import psutil
import pytest

from tests.integration.serving.clients import channel, outcome, score_request
from tests.integration.serving.processes import rest_client, service_process

AT_ONCE = 5
SLOW_ENGINE = {"tokens_per_s": 100.0}  # it takes one request at a time
LONG = score_request([1] * 300, [2])  # 3 s, so that what is sent after it is in flight for a while
HANGS = {"hang_token": 50}
GONE_TIMEOUT_S = 20.0


async def gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(GONE_TIMEOUT_S):
        while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def one_run_under_load() -> tuple[list[str], set[str], int]:
    """(outcomes of what was in flight at SIGTERM, outcomes of what came after, exit code)"""
    async with service_process(SLOW_ENGINE) as service, channel(service.grpc_port) as open_channel, rest_client() as client:
        await service.ready()

        async def rest_outcome() -> str:
            reply = await client.post(f"{service.rest_url}/v1/score", json={"context": [1, 2], "response": [3, 4]})
            return "OK" if reply.status_code == 200 else reply.text

        calls = [asyncio.create_task(outcome(open_channel, LONG))]
        await service.in_flight(1)
        calls += [asyncio.create_task(outcome(open_channel)) for _ in range(5)]
        calls += [asyncio.create_task(rest_outcome()) for _ in range(3)]
        await service.in_flight(len(calls))
        service.send(signal.SIGTERM)
        await service.seen("state", state="draining")
        late = {await outcome(open_channel) for _ in range(3)}
        return [await call for call in calls], late, await service.exit_code()


@pytest.mark.parametrize("runs", [2, pytest.param(10, marks=pytest.mark.slow)])
async def test_sigterm_under_load_fails_nothing_that_was_in_flight(runs: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def bounded() -> tuple[list[str], set[str], int]:
        async with gate:
            return await one_run_under_load()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bounded()) for _ in range(runs)]
    for in_flight, late, code in (run.result() for run in tasks):
        assert in_flight == ["OK"] * 9
        assert late <= {"UNAVAILABLE"}  # refused with a reason to come back; never cut off
        assert code == 0


async def test_draining_shows_on_every_probe_before_the_doors_close() -> None:
    async with service_process(SLOW_ENGINE) as service, channel(service.grpc_port) as open_channel, rest_client() as client:
        await service.ready()
        call = asyncio.create_task(outcome(open_channel, score_request([1] * 100, [2])))
        await service.in_flight(1)
        service.send(signal.SIGINT)
        await service.seen("state", state="draining")
        probe = await client.get(f"{service.rest_url}/readyz")
        assert (probe.status_code, probe.json()["state"], probe.json()["reasons"]) == (
            503,
            "draining",
            {"service": "received SIGINT"},
        )
        refused = await client.post(f"{service.rest_url}/v1/score", json={"context": [1], "response": [2]})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "UNAVAILABLE", "1")
        assert (await client.get(f"{service.rest_url}/livez")).status_code == 200
        assert await call == "OK"
        assert await service.exit_code() == 0
        stages = [event["stage"] for event in service.events if event["event"] == "drain_stage"]
        assert stages == ["announce", "requests", "service", "rest", "logs"]


async def test_a_second_sigterm_exits_at_once_and_takes_the_engine_along() -> None:
    async with service_process(HANGS, drain_grace_s=600) as service, channel(service.grpc_port) as open_channel:
        await service.ready()
        children = service.children()
        assert len(children) == 1
        stuck = asyncio.create_task(outcome(open_channel, score_request([1], [50]), timeout_s=60))
        await service.in_flight(1)
        service.send(signal.SIGTERM)
        await service.seen("state", state="draining")
        service.send(signal.SIGTERM)
        assert await service.exit_code() == 128 + signal.SIGTERM
        assert await stuck == "UNAVAILABLE"
        await gone(children)


async def test_what_outlasts_the_grace_is_cut_off_and_the_exit_code_says_so() -> None:
    brief = {"stop_grace_s": 0.3}
    async with service_process(HANGS, brief, drain_grace_s=0.3) as service, channel(service.grpc_port) as open_channel:
        await service.ready()
        children = service.children()
        stuck = asyncio.create_task(outcome(open_channel, score_request([1], [50]), timeout_s=60))
        await service.in_flight(1)
        service.send(signal.SIGTERM)
        assert await stuck in ("UNAVAILABLE", "CANCELLED")
        assert await service.exit_code() == 1
        await gone(children)


async def test_sigterm_while_loading_stops_the_load() -> None:
    async with service_process({"load_s": 600.0}) as service, rest_client() as client:
        probe = await client.get(f"{service.rest_url}/readyz")
        assert (probe.status_code, probe.json()["state"]) == (503, "loading")
        service.send(signal.SIGTERM)
        assert await service.exit_code() == 0


async def test_a_failed_load_ends_the_process_and_names_the_reason() -> None:
    async with service_process({"fail_to_load": True}) as service:
        assert await service.exit_code() == 1
        assert "the staged failure to load" in "".join(service.text)


async def test_kill_9_leaves_no_engine_behind() -> None:
    async with service_process(HANGS) as service, channel(service.grpc_port) as open_channel:
        await service.ready()
        children = service.children()
        assert len(children) == 1
        stuck = asyncio.create_task(outcome(open_channel, score_request([1], [50]), timeout_s=60))
        await service.in_flight(1)  # the engine is inside a call that never returns
        service.send(signal.SIGKILL)
        assert await service.exit_code() == -signal.SIGKILL
        await gone(children)
        assert await stuck == "UNAVAILABLE"
