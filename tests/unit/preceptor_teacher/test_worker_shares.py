"""How workers share a queue: nobody holds more of a flow than keeps his engine full, and no engine waits while there is work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st

from preceptor import wire
from preceptor.queue import Flow, MemoryQueue
from preceptor.types import Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.scheduler.types import QueueLimits
from preceptor_teacher.pool import EnginePool, PoolPolicy
from preceptor_teacher.worker import QueueWorker, Scoring, WorkerPolicy
from preceptor_teacher.worker.holdings import Held, Holdings

FLOW, OTHER = Flow("t", "acme", "job"), Flow("t", "acme", "other")
BATCH_TOKENS = 8192
POLICY = WorkerPolicy()
BOUND_TOKENS = POLICY.batches_per_flow * BATCH_TOKENS
QUICK = WorkerPolicy(wait_ready_s=0.05, reclaim_s=0.05)
WAIT_S = 30.0


class Worker:
    """The numbers alone: it leases as long as it may, and scores in order of arrival, a batch at a time."""

    def __init__(self) -> None:
        self.holdings = Holdings(POLICY, BATCH_TOKENS)
        self.held: list[Held] = []
        self.tasks = 0

    def lease(self, ready: list[int]) -> None:
        while taken := self.holdings.room(FLOW, len(ready)):
            self.tasks += taken
            fresh = [(self.holdings.begin(FLOW), ready.pop(0)) for _ in range(taken)]
            for held, tokens in fresh:
                held.weighs(tokens)
            self.held += [held for held, _ in fresh]

    @property
    def tokens(self) -> int:
        return sum(held.unscored_tokens or 0 for held in self.held)

    def score_batch(self) -> None:
        used = 0
        while self.held and (not used or used + (self.held[0].unscored_tokens or 0) <= BATCH_TOKENS):
            used += self.held[0].unscored_tokens or 0
            self.holdings.end(self.held.pop(0))


@given(st.integers(1, 4), st.lists(st.integers(1, 3 * BATCH_TOKENS), min_size=1, max_size=80))
def test_no_engine_waits_beside_work_and_what_is_held_is_bounded(workers, sizes):
    ready, all_workers = list(sizes), [Worker() for _ in range(workers)]
    while ready or any(worker.held for worker in all_workers):
        for worker in all_workers:
            worker.lease(ready)
            fits = worker.tokens + max(sizes) <= BOUND_TOKENS and len(worker.held) < POLICY.leases_per_flow
            at_engine = len(worker.held) >= 2 or worker.tokens >= BOUND_TOKENS
            assert (at_engine and not fits) or not ready
        for worker in all_workers:
            worker.score_batch()
    assert sum(worker.tasks for worker in all_workers) == len(sizes)


@given(st.integers(2, 4), st.integers(2000, 6000), st.integers(0, 30))
def test_workers_that_are_equally_quick_score_equally_many_tasks_of_a_flow_of_long_ones(workers, tokens, more):
    ready = [tokens] * (workers * 16 + more)
    all_workers = [Worker() for _ in range(workers)]
    while ready or any(worker.held for worker in all_workers):
        for worker in all_workers:
            worker.lease(ready)
            assert worker.tokens <= BOUND_TOKENS
        for worker in all_workers:
            worker.score_batch()
    counts = [worker.tasks for worker in all_workers]
    assert max(counts) - min(counts) <= BOUND_TOKENS / tokens


def test_a_flow_that_is_full_leaves_the_others_room_and_small_tasks_fill_the_count():
    holdings = Holdings(POLICY, BATCH_TOKENS)
    assert holdings.room(FLOW, 24) == 2  # nothing is known yet: each may fill a batch
    for _ in range(2):
        _weighed(holdings, 4000)
    assert holdings.room(FLOW, 22) == 2
    for _ in range(2):
        holdings.begin(FLOW)  # not read yet: they look like the ones before
    assert holdings.room(FLOW, 20) == 0
    assert holdings.room(OTHER, 1) == 1
    holdings.begin(OTHER).weighs(10)
    assert holdings.room(OTHER, 100) == POLICY.leases_per_flow - 1


def test_a_long_task_makes_the_next_ones_look_long_until_small_ones_have_come():
    holdings = Holdings(POLICY, BATCH_TOKENS)
    holdings.end(_weighed(holdings, BATCH_TOKENS))
    rooms = []
    for _ in range(40):
        rooms.append(holdings.room(FLOW, 100))
        holdings.end(_weighed(holdings, 1))
    assert rooms[0] == 2
    assert rooms == sorted(rooms)
    assert rooms[-1] == POLICY.leases_per_flow


def test_tokens_that_are_scored_make_room_before_their_lease_ends():
    holdings = Holdings(POLICY, BATCH_TOKENS)
    held = _weighed(holdings, 2 * BATCH_TOKENS)
    assert holdings.room(FLOW, 100) == 0
    holdings.moved.clear()
    held.weighs(BATCH_TOKENS)
    assert holdings.moved.is_set()
    assert holdings.room(FLOW, 100) == 1


def test_a_task_that_fills_the_bound_is_held_alone_and_a_shorter_one_has_a_second_beside_it():
    for tokens, beside in ((2 * BATCH_TOKENS, 0), (2 * BATCH_TOKENS - 1, 1), (BATCH_TOKENS + 1, 1)):
        holdings = Holdings(POLICY, BATCH_TOKENS)
        _weighed(holdings, tokens)
        assert holdings.room(FLOW, 100) == beside


async def test_three_workers_share_a_flow_of_long_tasks():
    """None of them scores anything before all have leased what they want: 24 tasks of 4,000 tokens are not 16, 8 and none."""
    queue, gate = MemoryQueue(), threading.Event()
    inline = wire.sequence_to_proto(Sequence.of(range(4, 54), [5, 6] * 1975))
    fields = {"schema": 1, "teacher": wire.choice_to_proto("t"), "want": wire.want_to_proto(Want(sampled=True)), "inline": inline}
    for number in range(24):
        await queue.create(FLOW, teacher_pb2.ScoreTask(task_id=f"task-{number}", **fields))
        await queue.poke(FLOW, f"task-{number}")
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(_gated(queue, f"worker-{number}", gate)) for number in range(3)]
        stack.callback(gate.set)
        async with asyncio.timeout(WAIT_S):
            while min(worker.held for worker in workers) < 4:  # noqa: ASYNC110 - a worker tells nobody what it holds
                await asyncio.sleep(0.005)
        assert [worker.held for worker in workers] == [4, 4, 4]
    await queue.close()


@asynccontextmanager
async def _gated(queue: MemoryQueue, name: str, gate: threading.Event) -> AsyncGenerator[QueueWorker]:
    """A worker whose engine computes when the gate opens, and not before."""
    channel = InlineEngine(lambda: FakeEngine(FakeOptions(name="t", tokens_per_s=1.0), sleep=lambda s: _pass(gate, s)))
    pool = EnginePool(channel, PoolPolicy(batch_tokens=BATCH_TOKENS), QueueLimits())
    await pool.start()
    worker = QueueWorker(queue, Scoring(pool), ("t",), name, QUICK)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop(grace_s=0.0)
        await pool.stop()


def _pass(gate: threading.Event, seconds: float) -> None:
    if seconds:
        gate.wait(WAIT_S)


def _weighed(holdings: Holdings, tokens: int) -> Held:
    held = holdings.begin(FLOW)
    held.weighs(tokens)
    return held
