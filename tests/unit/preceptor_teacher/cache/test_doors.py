"""One cache behind every door: bit-equal hits across them, tenants apart, equal work in flight done once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest

from preceptor import wire
from preceptor.errors import EngineFailed, Internal
from preceptor.queue import Flow, LogName, LogWriter, MemoryQueue, ScoreStream
from preceptor.types import CacheTier, RaggedIds, RolloutId, ScoreItem, Segment, Sequence, TailOf, Want
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engine_host.methods import SCORE
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.scheduler.types import FlowKey, QueueLimits, Task, Work
from preceptor_teacher.cache.front import CacheFront
from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.secrets import TenantSecrets
from preceptor_teacher.cache.tiers import ScoreCache
from preceptor_teacher.engines.hf import create
from preceptor_teacher.pool import EnginePool, PoolPolicy
from preceptor_teacher.tickets import Ticket
from tests.unit.preceptor_teacher.cache.house import TEACHER, computed_items, house, score

TOKENS = [int(n) for n in np.random.default_rng(1).integers(0, 61, 120)]
WHOLE = Sequence.of(TOKENS[:20], TOKENS[20:])
LISTS = RaggedIds.from_rows([[n % 61, (n + 7) % 61][: n % 3] for n in range(100)])
WANT = Want(sampled=True, topk=4, candidates=LISTS, tail=TailOf.UNION, deterministic=True)
FLOW = Flow(TEACHER, "local", "default")


async def through_queue(queue, task_id: str, chunks, *, attempt: int = 0) -> list[teacher_pb2.Envelope]:
    """What a task on a log leaves in `out`; the log grows by the chunks, with some time between them."""
    writer = LogWriter(queue, LogName.of(FLOW.tenant, FLOW.job, RolloutId("run", 1, 0, attempt)))
    task = teacher_pb2.ScoreTask(schema=1, task_id=task_id, teacher=wire.choice_to_proto(TEACHER), want=wire.want_to_proto(WANT))
    task.rollout.CopyFrom(wire.rollout_id_to_proto(RolloutId("run", 1, 0, attempt)))
    task.context.CopyFrom(wire.ids_to_proto(WHOLE.segments[0].ids))
    stream, left, taken = ScoreStream(queue, FLOW), WHOLE.response_ids, []
    await stream.open(task)
    async with asyncio.timeout(30):
        for size in chunks:
            await writer.append(wire.segment_to_proto(Segment("response", left[:size])))
            left = left[size:]
            await asyncio.sleep(0.01)  # let a worker see some of it; what it sees is its own business
            taken += (await stream.take(timeout_s=0.05)).deliveries
        await writer.close(common_pb2.FINISH_REASON_EOS)
        while not (taken and taken[-1].finished):
            took = await stream.take(timeout_s=0.2)
            taken += took.deliveries
            await stream.acknowledge(took)
    return [one.envelope for one in taken if one.envelope.rows.count]


def rest_of(at) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{at.rest_port}")


def computed_tokens(at) -> int:
    return at.service.find(TEACHER).pool.tokens_computed


def on_grid(folder):
    """An engine that commits rows of a growing task from complete cells only."""
    return lambda spec, context: InlineEngine(lambda: create({"name": TEACHER, "folder": folder}))


async def test_all_doors_answer_from_what_any_of_them_has_scored(llama_folder):
    queue = MemoryQueue()
    async with house(on_grid(llama_folder), queue) as at, rest_of(at) as http:
        grown = await through_queue(queue, "grown", [40, 31, 29])
        computed = computed_tokens(at)
        closed = await through_queue(queue, "closed", [100], attempt=1)
        [direct] = await score(at, ScoreItem(WHOLE, WANT))
        item = {"context": WHOLE.segments[0].ids.tolist(), "response": WHOLE.response_ids.tolist()}
        lists = [LISTS.row(n).tolist() for n in range(100)]
        want = {"sampled": True, "topk": 4, "candidates": lists, "tail": "union", "deterministic": True}
        body = {"teacher": TEACHER, "items": [item], "want": want}
        friendly = (await http.post("/v1/score", json=body)).json()["results"][0]
        assert computed_tokens(at) == computed > 0
    assert {one.receipt.cache for one in grown} == {common_pb2.CACHE_TIER_NONE}
    assert {(one.receipt.cache, one.receipt.tokens_computed) for one in closed} == {(common_pb2.CACHE_TIER_MEMORY, 0)}
    assert (direct.receipt.cache, direct.receipt.tokens_computed) == (CacheTier.MEMORY, 0)
    assert (friendly["receipt"]["cache"], friendly["receipt"]["tokens_computed"]) == ("memory", 0)
    [outcome] = create({"name": TEACHER, "folder": llama_folder}).score([ScoreItem(WHOLE, WANT)])
    fresh, _ = wire.rows_to_proto(outcome.rows, WANT.grade, outcome.rows.topk.ids.max() + 1)
    for envelopes in (grown, closed):
        for column in ("sampled_f32le", "tail_f32le", "validity"):
            assert b"".join(getattr(one.rows, column) for one in envelopes) == getattr(fresh, column)
        assert b"".join(one.rows.candidates.values for one in envelopes) == fresh.candidates.values
        assert b"".join(one.rows.topk.ids_low_u16le for one in envelopes) == fresh.topk.ids_low_u16le
    assert direct.rows.sampled.tobytes() == fresh.sampled_f32le
    assert np.array(friendly["rows"]["sampled"], np.float32).tobytes() == fresh.sampled_f32le


@pytest.mark.parametrize("chunks", [[44, 20, 36], [12, 32, 56], [100]])
async def test_a_second_task_finds_the_rows_of_one_that_grew_by_other_chunks(llama_folder, chunks):
    queue = MemoryQueue()
    async with house(on_grid(llama_folder), queue) as at:
        await through_queue(queue, "a", [12, 33, 55])
        computed = computed_tokens(at)
        again = await through_queue(queue, "b", chunks, attempt=1)
        assert {one.receipt.cache for one in again} == {common_pb2.CACHE_TIER_MEMORY}
        assert sum(one.rows.count for one in again) == 100
        assert computed_tokens(at) == computed


async def test_a_restarted_teacher_answers_from_disk_and_without_its_folder_it_does_not(tmp_path):
    item = ScoreItem(WHOLE, WANT)
    async with house(score_cache_folder=tmp_path / "scores") as at:
        [first] = await score(at, item)
    async with house(score_cache_folder=tmp_path / "scores", score_cache_memory_bytes=0) as at:
        [second] = await score(at, item)
        assert (computed_items(at), second.receipt.cache) == (0, CacheTier.DISK)
    assert second.rows.topk.logprobs.tobytes() == first.rows.topk.logprobs.tobytes()
    async with house(score_cache_memory_bytes=0) as at:
        await score(at, item)
        await score(at, item)
        assert computed_items(at) == 2


async def test_hits_cost_the_job_nothing_and_stand_in_their_places():
    other = ScoreItem(Sequence.of([9], TOKENS[:5]), Want(sampled=True))
    async with house() as at:
        await score(at, ScoreItem(WHOLE, WANT))
        pool = at.service.find(TEACHER).pool
        before = pool.tokens_computed
        results = await score(at, other, ScoreItem(WHOLE, WANT), ScoreItem(Sequence.of([9], [99]), Want(sampled=True)))
        assert pool.tokens_computed == before + 6
        assert results[0].rows.count == 5
        assert (results[1].rows.count, results[1].receipt.cache) == (100, CacheTier.MEMORY)
        assert results[2].field.startswith("items[2]")


async def test_readiness_tells_of_a_disk_that_fails(tmp_path):
    async with house(score_cache_folder=tmp_path / "scores", score_cache_memory_bytes=0) as at, rest_of(at) as http:
        at.service._cache.disk._env.close()
        for _ in range(2):
            [result] = await score(at, ScoreItem(WHOLE, WANT))
            assert result.rows.count == 100
        ready = await http.get("/readyz")
        assert (ready.status_code, "score-cache" in ready.text) == (200, True)
        assert at.service._cache.misses == 2


# ---- tenants, and what is in flight: a pool and its tickets


@asynccontextmanager
async def pool_of(engine=InlineEngine, **options):
    cache = ScoreCache(MemoryTier(1 << 20), None, TenantSecrets(b"s" * 32))
    channel = engine(lambda: FakeEngine(FakeOptions(name=TEACHER, **options)))
    pool = EnginePool(channel, PoolPolicy(batch_tasks=1, calls_in_flight=1), QueueLimits(), CacheFront(cache, "{}"))
    await pool.start()
    try:
        yield pool, cache
    finally:
        await pool.stop()
        await cache.close()


def ticket(pool, name: str, *, tenant="acme", band=0, deadline_s=1e9, response=(4, 5, 6)) -> Ticket:
    task = Task(name, FlowKey(TEACHER, tenant, "job", band), Work(6, 3), 1.0, deadline_s)
    item = teacher_pb2.ScoreItem(
        sequence=wire.sequence_to_proto(Sequence.of([1, 2, 3], response)), want=wire.want_to_proto(Want(sampled=True))
    )
    return Ticket(task, item, pool.info.model)


async def submitted(pool, *tickets: Ticket) -> None:
    await pool.look_up(tickets)
    for one in tickets:
        if not one.result.done():
            pool.submit(one)


def calls(pool) -> int:
    return sum(len(call) for call in pool.channel.engine.calls)


async def test_no_tenant_finds_what_another_has_scored():
    async with pool_of() as (pool, cache):
        for number, tenant in enumerate(["acme", "other", "acme "], 1):
            one = ticket(pool, f"t{number}", tenant=tenant)
            await submitted(pool, one)
            await one.result
            assert (calls(pool), sum(cache.hits.values())) == (number, 0)


async def test_equal_items_in_flight_are_computed_once_inside_a_flow():
    async with pool_of(tokens_per_s=100.0) as (pool, cache):
        first, same = ticket(pool, "first"), ticket(pool, "same")
        others = [ticket(pool, "tenant", tenant="other"), ticket(pool, "band", band=1), ticket(pool, "soon", deadline_s=5e8)]
        await submitted(pool, first, same, *others)
        results = [await one.result for one in (first, same, *others)]
        assert (calls(pool), cache.shared) == (4, 1)
        assert [result.receipt.tokens_computed for result in results] == [6, 0, 6, 6, 6]
        assert len({result.rows.sampled_f32le for result in results}) == 1


async def test_who_waits_for_work_that_is_given_up_gets_it_done_himself():
    async with pool_of(tokens_per_s=30.0) as (pool, _):
        busy, first, same = ticket(pool, "busy", response=(9,)), ticket(pool, "first"), ticket(pool, "same")
        await submitted(pool, busy, first, same)
        first.result.cancel()
        pool.cancel(["first"])
        assert (await same.result).receipt.tokens_computed == 6


async def test_a_failure_is_the_failure_of_everybody_who_waits_and_is_not_remembered():
    async with pool_of(defect_token=60) as (pool, cache):
        first, same = ticket(pool, "first", response=(60,)), ticket(pool, "same", response=(60,))
        await submitted(pool, first, same)
        for one in (first, same):
            with pytest.raises(Exception, match=r".") as failed:
                await one.result
            assert not isinstance(failed.value, (EngineFailed, asyncio.CancelledError))
        assert (len(cache.memory), cache.shared) == (0, 0)


async def test_a_stopping_pool_ends_those_who_wait_for_others():
    async with pool_of(tokens_per_s=0.5) as (pool, _):
        first, same = ticket(pool, "first"), ticket(pool, "same")
        await submitted(pool, first, same)
        await pool.stop()
        for one in (first, same):
            with pytest.raises(Exception, match="stopping"):
                await one.result


class Mortal(InlineEngine):
    """Dies of every call, and says how often."""

    deaths = 0

    async def call(self, method: str, request: bytes, *, timeout_s: float) -> bytes:
        if method != SCORE:
            return await super().call(method, request, timeout_s=timeout_s)
        self.deaths += 1
        raise EngineFailed("died")


async def test_an_item_that_kills_the_engine_kills_it_no_oftener_for_being_asked_for_by_many():
    async with pool_of(Mortal) as (pool, _):
        equal = [ticket(pool, f"t{number}") for number in range(5)]
        await submitted(pool, *equal)
        for one in equal:
            with pytest.raises(EngineFailed):
                await one.result
        assert pool.channel.deaths == 2  # in its batch, and alone


async def test_leased_work_that_waits_for_a_killer_is_told_at_once_and_a_door_s_is_tried_alone():
    async with pool_of(Mortal) as (pool, _):
        leased, same, door = (ticket(pool, name) for name in ("leased", "same", "door"))
        leased.retry_alone = same.retry_alone = False
        await submitted(pool, leased, same, door)
        for one in (leased, same, door):
            with pytest.raises(EngineFailed):
                await one.result
        assert (pool.channel.deaths, door.task.suspect) == (2, True)


async def test_a_suspect_is_followed_by_nobody():
    async with pool_of(tokens_per_s=30.0) as (pool, _):
        first = ticket(pool, "first")
        first.task = replace(first.task, suspect=True)
        await submitted(pool, first, other := ticket(pool, "other"))
        assert [(await one.result).receipt.tokens_computed for one in (first, other)] == [6, 6]


async def test_a_defect_ends_its_call_and_nobody_waits_for_ever(monkeypatch):
    async with pool_of() as (pool, cache):
        with monkeypatch.context() as broken:
            broken.setattr(cache, "keep", lambda entries: 1 // 0)
            first, same = ticket(pool, "first"), ticket(pool, "same")
            await submitted(pool, first, same)
            async with asyncio.timeout(20):
                for one in (first, same):
                    with pytest.raises(Internal):
                        await one.result
        assert pool.scheduler.running_tasks == 0
        await submitted(pool, after := ticket(pool, "after"))
        assert (await after.result).rows.count == 3
