"""Who leaves while his work is scored leaves nothing behind, whichever door he came through: counted at engine and quota."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from preceptor import wire
from preceptor.queue import Flow, MemoryQueue, ScoreStream
from preceptor.queue.quotas import Counter, QuotaLimits
from preceptor.types import Want
from preceptor_serving.scheduler.types import FlowKey
from tests.unit.preceptor_teacher.test_tenants import ONE_BY_ONE, Site, item, site, until
from tests.unit.preceptor_teacher.test_worker import task

__all__ = ["site"]

ITEMS = 6
ESTIMATED = 6  # tokens of one item before it is computed: nothing has to read the last one
LIMITS = QuotaLimits(tokens_per_minute=1000, in_flight=ITEMS)
NAMES = [f"task-{number}" for number in range(ITEMS)]
Leave = Callable[[Site, str, MemoryQueue], Awaitable[None]]


async def begun(site: Site) -> None:
    """One item is on the engine, all others wait."""
    await until(lambda: site.scheduler.running_tasks == 1 and site.scheduler.waiting_tasks == ITEMS - 1)


async def leave_grpc(site: Site, key: str, queue: MemoryQueue) -> None:
    asking = asyncio.create_task(site.score(key, *(item(1, number) for number in range(ITEMS)), job="job"))
    await begun(site)
    await given_up(asking)


def rest_leaver(path: str, body: dict[str, object]) -> Leave:
    async def leave(site: Site, key: str, queue: MemoryQueue) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.house.rest_port}", timeout=60) as http:
            asking = asyncio.create_task(http.post(path, json=body, headers={"X-API-Key": key}))
            await begun(site)
            await given_up(asking)

    return leave


async def given_up(asking: asyncio.Task[object]) -> None:
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def leave_queue(site: Site, key: str, queue: MemoryQueue) -> None:
    stream = ScoreStream(queue, Flow("fake", "acme", "job"))
    for number, name in enumerate(NAMES):
        named = task(name, Want(sampled=True), inline=wire.sequence_to_proto(item(1, number).sequence))
        named.teacher.teacher = "fake"
        await stream.open(named)
    await begun(site)
    for name in NAMES:
        await stream.cancel(name)


PROMPTS = [item(1, number).sequence.ids.tolist() for number in range(ITEMS)]
SCORED = [{"context": ids[:3], "response": ids[3:]} for ids in PROMPTS]
LOGPROBS = {"return_logprob": True, "logprob_start_len": 0, "sampling_params": {"max_new_tokens": 0}}
DOORS: dict[str, Leave] = {
    "grpc": leave_grpc,
    "rest": rest_leaver("/v1/score", {"teacher": "fake", "job": "job", "items": SCORED, "want": {"sampled": True}}),
    "sglang": rest_leaver("/generate", {"input_ids": PROMPTS, **LOGPROBS}),
    "queue": leave_queue,
}


@pytest.mark.parametrize("door", DOORS)
async def test_who_leaves_frees_his_slots_his_quota_and_the_engine(site: Site, door: str) -> None:
    key, queue = site.key("acme", job="job"), MemoryQueue()
    site.limit("acme", limits=LIMITS)
    async with site.opened(ONE_BY_ONE, queue=queue):
        site.go.clear()
        await DOORS[door](site, key, queue)
        await until(lambda: not site.scheduler.waiting_tasks and not site.house.frame.in_flight)
        accounts = site.house.service.accounts  # pyright: ignore[reportAttributeAccessIssue]
        await until(lambda: not accounts.desk._held)
        hold = await accounts.reserve(
            FlowKey("fake", "acme", "job", 0), LIMITS, tokens=1000 - ESTIMATED, places=ITEMS
        )  # every place, and all tokens but those of what ran
        await hold.settle(0)
        site.go.set()
        await until(lambda: not site.scheduler.running_tasks)
        assert site.engine.jobs == [1], "what had not begun is never computed"
        used = (await accounts.book.usage("fake", "acme"))["job"]
        assert used == {Counter.CHARGED: ESTIMATED}, "what ran is paid, and nothing of it is a served request"
        assert [await queue.read_out(Flow("fake", "acme", "job")), site.scheduler.standings(0.0)] == [(), {}]
    await queue.close()
