"""The queue door: growing logs, takeovers, views, cancels, poison and drains, over the in-memory queue and real engines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from preceptor import wire
from preceptor.queue import Flow, LogName, LogWriter, MemoryQueue, QueueBounds, ScoreStream
from preceptor.queue.quotas import QuotaLimits
from preceptor.types import ModelRef, RaggedIds, RolloutId, Rows, Segment, Sequence, TailOf, Want, Window
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2
from preceptor_serving.auth.terms import Terms
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import FlowKey, QueueLimits
from preceptor_teacher.engines.hf import create
from preceptor_teacher.pool import EnginePool, PoolPolicy
from preceptor_teacher.worker import QueueWorker, Scoring, WorkerPolicy

TEACHER = "t"
FLOW = Flow(TEACHER, "acme", "job")
QUICK = WorkerPolicy(wait_ready_s=0.05, reclaim_s=0.05, heartbeat_s=0.05, retry_pause_s=0.01)
EOS = common_pb2.FINISH_REASON_EOS
WAIT_S = 30.0


@dataclass
class Rig:
    queue: MemoryQueue
    stream: ScoreStream
    received: dict[str, list[teacher_pb2.Envelope]]

    def writer(self, sample: int = 0) -> LogWriter:
        return LogWriter(self.queue, LogName.of(FLOW.tenant, FLOW.job, rollout(sample)))

    async def until(self, *finished: str) -> None:
        """Takes results until these tasks have ended."""
        async with asyncio.timeout(WAIT_S):
            while not all(self.ended(task_id) for task_id in finished):
                await self.take(timeout_s=0.2)

    async def until_rows(self, task_id: str, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.row_count(task_id) < count:
                await self.take(timeout_s=0.2)

    async def take(self, timeout_s: float) -> None:
        taken = await self.stream.take(timeout_s=timeout_s)
        for delivery in taken.deliveries:
            self.received.setdefault(delivery.task_id, []).append(delivery.envelope)
        if taken.deliveries:
            await self.stream.acknowledge(taken)

    def ended(self, task_id: str) -> bool:
        return bool(self.received.get(task_id)) and self.received[task_id][-1].finished

    def row_count(self, task_id: str) -> int:
        return sum(envelope.rows.count for envelope in self.received.get(task_id, ()))

    def rows(self, task_id: str) -> list[Rows]:
        """What arrived, each part starting where the one before it ended."""
        parts = [wire.rows_from_proto(e.rows) for e in self.received[task_id] if e.rows.count]
        for one, other in itertools.pairwise(parts):
            assert other.start == one.end
        return parts

    def sampled(self, task_id: str) -> np.ndarray:
        return np.concatenate([part.sampled for part in self.rows(task_id)])

    def error(self, task_id: str) -> common_pb2.ErrorDetail:
        return self.received[task_id][-1].error


def rollout(sample: int = 0) -> RolloutId:
    return RolloutId("run", 1, 0, sample)


def task(task_id: str, want: Want, context=(1, 2, 3), sample: int = 0, **fields) -> teacher_pb2.ScoreTask:
    message = teacher_pb2.ScoreTask(
        schema=1, task_id=task_id, teacher=wire.choice_to_proto(TEACHER), want=wire.want_to_proto(want), **fields
    )
    if not message.HasField("inline"):
        message.rollout.CopyFrom(wire.rollout_id_to_proto(rollout(sample)))
        message.context.CopyFrom(wire.ids_to_proto(context))
    return message


async def respond(writer: LogWriter, ids, kind="response", candidates=None) -> None:
    extra = {} if candidates is None else {"candidates": wire.ragged_to_proto(RaggedIds.from_rows(candidates))}
    await writer.append(wire.segment_to_proto(Segment(kind, np.array(ids, np.uint32))), **extra)


@asynccontextmanager
async def rig(**bounds) -> AsyncGenerator[Rig]:
    queue = MemoryQueue(bounds=QueueBounds(**bounds))
    try:
        yield Rig(queue, ScoreStream(queue, FLOW), {})
    finally:
        await queue.close()


@asynccontextmanager
async def worker(
    queue, channel=None, *, names=(TEACHER,), policy=QUICK, grace_s=5.0, accounts=None, **pool
) -> AsyncGenerator[QueueWorker]:
    channel = channel or InlineEngine(lambda: FakeEngine(FakeOptions(name=TEACHER)))
    engine_pool = EnginePool(channel, PoolPolicy(**pool), QueueLimits())
    await engine_pool.start()
    one = QueueWorker(queue, Scoring(engine_pool), names, "worker-1", policy, accounts=accounts)
    one.start()
    try:
        yield one
    finally:
        await one.stop(grace_s)
        await engine_pool.stop()


async def until(condition) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - a worker tells nobody what it holds
            await asyncio.sleep(0.005)


def expected(sequence: Sequence, want: Want, engine=None) -> Rows:
    [outcome] = (engine or FakeEngine(FakeOptions(name=TEACHER))).score([ScoreItem(sequence, want)])
    return outcome.rows


SAMPLED = Want(sampled=True)


async def test_a_task_is_scored_while_its_log_grows_and_ends_with_it():
    async with rig() as at, worker(at.queue):
        await at.stream.open(task("a", SAMPLED))
        writer, tokens = at.writer(), list(range(4, 24))
        for start in range(0, 20, 5):
            await respond(writer, tokens[start : start + 5])
            await at.until_rows("a", start + 5)
        await writer.close(EOS)
        await at.until("a")
        assert np.array_equal(at.sampled("a"), expected(Sequence.of([1, 2, 3], tokens), SAMPLED).sampled)


async def test_several_views_of_one_log_have_the_same_rows_and_a_late_one_catches_up():
    async with rig() as at, worker(at.queue):
        await at.stream.open(task("plain", SAMPLED))
        hint = {"turn_contexts": [teacher_pb2.TurnContext(turn=1, context=wire.ids_to_proto([9, 9]))]}
        await at.stream.open(task("hinted", SAMPLED, context=(7, 8), **hint))
        writer = at.writer()
        await respond(writer, [4, 5])
        await respond(writer, [6])
        await respond(writer, [30, 31], "context")
        await respond(writer, [10, 11])
        await writer.close(EOS)
        await at.stream.open(task("late", SAMPLED))
        await at.until("plain", "hinted", "late")
        plain = [("context", [1, 2, 3]), ("response", [4, 5, 6]), ("context", [30, 31]), ("response", [10, 11])]
        hinted = [("context", [7, 8]), ("response", [4, 5, 6]), ("context", [9, 9]), ("response", [10, 11])]
        assert np.array_equal(at.sampled("plain"), expected(Sequence.of_turns(plain), SAMPLED).sampled)
        assert np.array_equal(at.sampled("late"), at.sampled("plain"))
        assert np.array_equal(at.sampled("hinted"), expected(Sequence.of_turns(hinted), SAMPLED).sampled)


async def test_windows_next_rows_and_candidates_of_the_log():
    lists = [[5, 1], [], [2], [0]]
    sequence = Sequence.of([1, 2, 3], [4, 5, 6, 7])
    async with rig() as at, worker(at.queue):
        await at.stream.open(task("window", Want(sampled=True, window=Window(1, 3))))
        await at.stream.open(task("next", Want(sampled=True, topk=3, next=True)))
        await at.stream.open(task("lists", Want(log_candidates=True, tail=TailOf.CANDIDATES)))
        writer = at.writer()
        await respond(writer, [4, 5, 6], candidates=lists[:3])
        await at.until("window")  # its rows are known before the log is closed
        await respond(writer, [7], candidates=lists[3:])
        await writer.close(EOS)
        await at.until("next", "lists")
        whole = expected(sequence, Want(sampled=True, topk=3, next=True, candidates=RaggedIds.from_rows([*lists, []])))
        assert np.array_equal(at.sampled("window"), whole.sampled[1:3])
        assert np.isnan(at.sampled("next")[-1])
        assert np.array_equal(np.concatenate([part.topk.ids for part in at.rows("next")]), whole.topk.ids)
        values = b"".join(e.rows.candidates.values for e in at.received["lists"])
        assert np.array_equal(np.frombuffer(values, "<f4"), whole.candidates.logprobs)


async def test_inline_tasks_need_no_log():
    sequence = Sequence.of([1, 2], [3, 4, 5])
    lists = RaggedIds.from_rows([[1], [2, 3]])
    want = Want(sampled=True, candidates=lists, window=Window(1, 3))
    async with rig() as at, worker(at.queue, policy=WorkerPolicy(wait_ready_s=0.05, commit_bytes=1)):  # one row a commit
        await at.stream.open(task("inline", want, inline=wire.sequence_to_proto(sequence)))
        await at.until("inline")
        parts = [e.rows for e in at.received["inline"] if e.rows.count]
        assert [(part.start, part.count) for part in parts] == [(1, 1), (2, 1)]
        whole = expected(sequence, want)
        assert b"".join(part.sampled_f32le for part in parts) == whole.sampled.tobytes()
        assert b"".join(part.candidates.values for part in parts) == whole.candidates.logprobs.tobytes()


async def test_large_rows_travel_as_blobs():
    async with rig(inline_rows_bytes=64) as at, worker(at.queue):
        await at.stream.open(task("big", Want(topk=16)))
        writer = at.writer()
        await respond(writer, range(4, 24))
        await writer.close(EOS)
        await at.until("big")
        assert at.row_count("big") == 20


async def test_another_worker_takes_over_in_the_middle_to_the_bit(llama_folder):
    """The first worker's engine goes away with its states; the second reads the log and computes the rest again."""
    tokens = np.random.default_rng(5).integers(0, 261, 90).tolist()
    want = Want(sampled=True, topk=4, deterministic=True)
    engine = create({"name": TEACHER, "folder": llama_folder})
    reference = expected(Sequence.of(tokens[:20], tokens[20:]), want, engine)

    def hf():
        return InlineEngine(lambda: create({"name": TEACHER, "folder": llama_folder}))

    async with rig() as at:
        writer = at.writer()
        await at.stream.open(task("a", want, context=tokens[:20]))
        async with worker(at.queue, hf()):
            await respond(writer, tokens[20:70])
            await at.until_rows("a", 64 - 19)
        async with worker(at.queue, hf()):
            await respond(writer, tokens[70:])
            await writer.close(EOS)
            await at.until("a")
        assert at.sampled("a").tobytes() == reference.sampled.tobytes()
        assert at.received["a"][-1].receipt.tokens_recomputed == 64


async def test_growing_hf_tasks_reuse_their_state_and_a_group_shares_its_prompt(llama_folder):
    rng = np.random.default_rng(6)
    prompt = rng.integers(0, 261, 64).tolist()
    responses = [rng.integers(0, 261, 32).tolist() for _ in range(4)]
    channel = InlineEngine(lambda: create({"name": TEACHER, "folder": llama_folder}))
    async with rig() as at, worker(at.queue, channel) as one:
        writers = [at.writer(i) for i in range(4)]
        for i in range(4):
            await at.stream.open(task(f"r{i}", SAMPLED, context=prompt, sample=i))
        for start in range(0, 32, 8):
            for i, writer in enumerate(writers):
                await respond(writer, responses[i][start : start + 8])
                await at.until_rows(f"r{i}", start + 8)
        for writer in writers:
            await writer.close(EOS)
        await at.until("r0", "r1", "r2", "r3")
        unique = len(prompt) + 4 * 32
        assert one._trade.pool.tokens_computed <= 1.05 * unique
        direct = create({"name": TEACHER, "folder": llama_folder})
        for i in range(4):
            assert at.sampled(f"r{i}") == pytest.approx(
                expected(Sequence.of(prompt, responses[i]), SAMPLED, direct).sampled, abs=1e-4
            )


async def test_a_cancelled_task_commits_nothing_more():
    slow = InlineEngine(lambda: FakeEngine(FakeOptions(name=TEACHER, tokens_per_s=10.0)))
    async with rig() as at, worker(at.queue, slow) as one:
        await at.stream.open(task("a", SAMPLED))
        await respond(at.writer(), [4, 5, 6])
        await until(lambda: one.held)
        await at.stream.cancel("a")
        await until(lambda: not one.held)
        assert not await at.queue.read_out(FLOW)


async def test_a_mistake_in_a_task_ends_as_a_dead_letter_that_names_it():
    async with rig() as at, worker(at.queue):
        await at.stream.open(task("bad", Want(topk=62)))
        await at.stream.open(task("no-lists", Want(log_candidates=True), sample=1))
        await at.stream.open(task("good", SAMPLED, sample=2))
        for sample in range(3):
            writer = at.writer(sample)
            await respond(writer, [4, 5])
            await writer.close(EOS)
        await at.until("bad", "no-lists", "good")
        assert (at.error("bad").field, at.error("bad").value) == ("want.topk", "62")
        assert at.error("no-lists").field == "want.log_candidates"
        assert at.row_count("good") == 2
        letters = await at.queue.dead_letters(FLOW)
        assert sorted(entry.letter.task.task_id for entry in letters) == ["bad", "no-lists"]


async def test_an_item_s_own_error_gives_its_place_in_the_quota_back():
    terms = Terms(QuotaLimits(tokens_per_minute=1000, in_flight=1))
    accounts = Accounts(lambda tenant, job: terms)
    channel = InlineEngine(lambda: FakeEngine(FakeOptions(name=TEACHER, refuse_token=60)))
    async with rig() as at, worker(at.queue, channel, accounts=accounts):
        await at.stream.open(task("refused", SAMPLED))
        writer = at.writer()
        await respond(writer, [60, 5])
        await writer.close(EOS)
        await at.until("refused")
        flow = FlowKey(TEACHER, FLOW.tenant, FLOW.job, 0)
        hold = await accounts.reserve(flow, terms.limits, tokens=1000, places=1)  # all that there is
        await hold.settle(0)


async def test_an_engine_killer_is_found_alone_and_its_neighbours_are_scored():
    policy = HostPolicy(heartbeat_s=0.2, backoff_first_s=0.01, restart_wait_s=20.0)
    channel = EngineHost(EngineSpec(TEACHER, "fake", {"name": TEACHER, "crash_token": 60}), policy)
    async with rig() as at, worker(at.queue, channel):
        names = []
        for sample in range(4):
            name = "killer" if sample == 1 else f"good-{sample}"
            names.append(name)
            await at.stream.open(task(name, SAMPLED, sample=sample))
            writer = at.writer(sample)
            await respond(writer, [60 if sample == 1 else 4, 5])
            await writer.close(EOS)
        await at.until(*names)
        assert at.error("killer").code == common_pb2.ENGINE_FAILED
        assert [at.row_count(name) for name in names] == [2, 0, 2, 2]


async def test_a_pinned_version_that_is_gone_is_told_and_ends_the_task():
    async with rig() as at, worker(at.queue):
        gone = task("a", SAMPLED)
        gone.teacher.CopyFrom(wire.choice_to_proto(TEACHER, ModelRef(TEACHER, run="r", step=7, manifest_sha256=bytes(32))))
        await at.stream.open(gone)
        await at.until("a")
        assert at.error("a").code == common_pb2.VERSION_GONE


async def test_a_drained_worker_finishes_in_time_or_hands_back_unharmed():
    slow = InlineEngine(lambda: FakeEngine(FakeOptions(name=TEACHER, tokens_per_s=4.0)))
    async with rig() as at:
        await at.stream.open(task("a", SAMPLED))
        writer = at.writer()
        await respond(writer, [4, 5, 6])
        await writer.close(EOS)
        async with worker(at.queue, slow, grace_s=0.01) as one:
            await until(lambda: one.held)
        info = await at.queue.task_info(FLOW, "a")
        assert (info.strikes, info.suspect, str(info.state)) == (0, False, "ready")
        async with worker(at.queue):
            await at.until("a")
        assert at.row_count("a") == 3


async def test_an_alias_has_a_queue_of_its_own_and_one_worker_serves_both():
    async with rig() as at, worker(at.queue, names=(TEACHER, "alias")):
        aliased = ScoreStream(at.queue, Flow("alias", FLOW.tenant, FLOW.job))
        message = task("a", SAMPLED)
        message.teacher.teacher = "alias"
        await aliased.open(message)
        writer = at.writer()
        await respond(writer, [4, 5])
        await writer.close(EOS)
        taken = None
        async with asyncio.timeout(WAIT_S):
            while not taken or not taken.deliveries:
                taken = await aliased.take(timeout_s=0.2)
        assert taken.deliveries[0].envelope.rows.count == 2


def test_every_log_entry_before_a_turn_is_replaced_by_the_views_context():
    from preceptor_teacher.worker.view import log_view

    def entry(offset, kind, ids):
        return rollout_pb2.LogEntry(
            schema=1, offset=offset, segment=wire.segment_to_proto(Segment(kind, np.array(ids, np.uint32)))
        )

    replaced = [teacher_pb2.TurnContext(turn=1, context=wire.ids_to_proto([50]))]
    entries = [entry(0, "response", [1]), entry(1, "context", [2]), entry(2, "context", [3]), entry(3, "response", [4, 5])]
    view = log_view(task("a", SAMPLED, turn_contexts=replaced), entries, closed=True)
    assert view.sequence.ids.tolist() == [1, 2, 3, 1, 50, 4, 5]
    assert view.offsets.tolist() == [0, 3, 4]
    assert [view.scored_upto(row) for row in range(4)] == [0, 3, 4, 5]
