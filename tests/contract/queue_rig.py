"""What the queue's contract tests share: a clock that is moved by hand, small tasks, and a teacher whose score is the token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from preceptor.queue import Flow, Lease, LogName, LogWriter, MemoryQueue, Queue, QueueBounds, Then
from preceptor.types import ModelRef, RolloutId
from preceptor.wire import ids_to_proto, model_ref_to_proto, rollout_id_to_proto
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2

TEACHER, TENANT, JOB = "teacher-1", "acme", "job-1"
FLOW = Flow(TEACHER, TENANT, JOB)
MODEL = ModelRef("teacher-1", manifest_sha256=bytes(range(32)))
BOUNDS = QueueBounds(lease_s=30.0, inline_rows_bytes=64, unread_bytes=4_000)
EOS = common_pb2.FINISH_REASON_EOS
START_S = 1_700_000_000.0


@dataclass
class Clock:
    """Seconds that only the test moves."""

    now_s: float = START_S

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


OpenQueue = Callable[[Clock, QueueBounds], AbstractAsyncContextManager[Queue]]
"""A fresh, empty queue on this clock. `lose` of the rig is for what a server may lose; implementations say how."""

Lose = Callable[[Queue, str], bool]
"""Lose one key of the protocol, as a server restored from an older file does. False when it was not there."""


@asynccontextmanager
async def open_memory_queue(clock: Clock, bounds: QueueBounds) -> AsyncIterator[Queue]:
    queue = MemoryQueue(bounds=bounds, clock=clock)
    try:
        yield queue
    finally:
        await queue.close()


def lose_in_memory(queue: Queue, key: str) -> bool:
    assert isinstance(queue, MemoryQueue)
    return queue.lose(key)


# ---------------------------------------------------------------- messages


def rollout(sample: int = 0, attempt: int = 0) -> RolloutId:
    return RolloutId("run-1", 1, 0, sample, attempt)


def log_name(sample: int = 0, attempt: int = 0) -> LogName:
    return LogName.of(TENANT, JOB, rollout(sample, attempt))


def segment(kind: str, ids: list[int]) -> common_pb2.Segment:
    return common_pb2.Segment(**{kind: ids_to_proto(np.array(ids, np.uint32))})


def entry(offset: int, ids: list[int], kind: str = "response") -> rollout_pb2.LogEntry:
    return rollout_pb2.LogEntry(schema=1, offset=offset, segment=segment(kind, ids))


def closing(offset: int, reason: common_pb2.FinishReason = EOS) -> rollout_pb2.LogEntry:
    return rollout_pb2.LogEntry(schema=1, offset=offset, close=rollout_pb2.LogClose(finish_reason=reason))


def inline_task(task_id: str = "task-1", **fields: object) -> teacher_pb2.ScoreTask:
    task = teacher_pb2.ScoreTask(
        schema=1,
        task_id=task_id,
        inline=common_pb2.Sequence(segments=[segment("context", [1]), segment("response", [2, 3])]),
        teacher=common_pb2.ModelChoice(teacher=TEACHER, latest=True),
        want=common_pb2.Want(sampled=True),
        trace=f"trace of {task_id}",
    )
    task.MergeFrom(teacher_pb2.ScoreTask(**fields))  # pyright: ignore[reportArgumentType]
    return task


def log_task(task_id: str = "task-1", sample: int = 0, attempt: int = 0, **fields: object) -> teacher_pb2.ScoreTask:
    task = inline_task(task_id, **fields)
    task.rollout.CopyFrom(rollout_id_to_proto(rollout(sample, attempt)))
    return task


def exact(task: teacher_pb2.ScoreTask, model: ModelRef = MODEL) -> teacher_pb2.ScoreTask:
    named = teacher_pb2.ScoreTask()
    named.CopyFrom(task)
    named.teacher.exact.CopyFrom(model_ref_to_proto(model))
    return named


def rows(start: int, tokens: list[int]) -> teacher_pb2.Envelope:
    """Scores that name the tokens they are of."""
    message = common_pb2.Rows(
        start=start, count=len(tokens), validity=bytes(len(tokens)), sampled_f32le=np.array(tokens, "<f4").tobytes()
    )
    return teacher_pb2.Envelope(rows=message, receipt=common_pb2.Receipt(model=model_ref_to_proto(MODEL)))


def tokens_of(envelope: teacher_pb2.Envelope) -> list[int]:
    return [int(value) for value in np.frombuffer(envelope.rows.sampled_f32le, "<f4")]


def error(code: common_pb2.ErrorCode, message: str = "it failed") -> common_pb2.ErrorDetail:
    return common_pb2.ErrorDetail(code=code, message=message)


# ---------------------------------------------------------------- a worker and its teacher


async def put(queue: Queue, task: teacher_pb2.ScoreTask, flow: Flow = FLOW) -> None:
    """A ready task."""
    await queue.create(flow, task)
    await queue.poke(flow, task.task_id)


async def lease_one(queue: Queue, worker: str = "w1", *, alone: bool = False, flow: Flow = FLOW, band: int = 0) -> Lease:
    (lease,) = await queue.lease(flow, worker, alone=alone, band=band)
    return lease


async def write_log(queue: Queue, tokens: list[int], sample: int = 0, *, closed: bool = True) -> LogWriter:
    writer = LogWriter(queue, log_name(sample))
    if tokens:
        await writer.append(segment("response", tokens))
    if closed:
        await writer.close(EOS)
    return writer


@dataclass
class Work:
    """One leased task and what its worker computed from the log as it stood then."""

    lease: Lease
    envelopes: list[teacher_pb2.Envelope] = field(default_factory=list)
    scored_upto: int = 0
    then: Then = Then.RELEASE

    async def commit(self, queue: Queue) -> None:
        await queue.commit(self.lease, self.envelopes, self.scored_upto, self.then)


async def score(queue: Queue, lease: Lease, sample: int, *, most: int = 1_000_000) -> Work:
    """Read the log and score at most so many rows of it, without committing anything."""
    view = await queue.read(log_name(sample))
    tokens: list[int] = []
    for each in view.entries:
        if each.WhichOneof("body") == "segment" and each.segment.WhichOneof("kind") == "response":
            tokens += np.frombuffer(each.segment.response.u32le, "<u4").tolist()
    new = tokens[lease.next_row : lease.next_row + most]
    done = view.closed and lease.next_row + len(new) >= len(tokens)
    envelopes = [rows(lease.next_row, new)] if new else []
    return Work(lease, envelopes, max(lease.scored_upto, view.length if done else 0), Then.FINISH if done else Then.RELEASE)
