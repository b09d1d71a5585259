"""Deadlines of queued tasks hold behind the lease, too: they order what a worker holds, and what is late is not computed."""

from __future__ import annotations

import time

import pytest

from preceptor import wire
from preceptor.queue import MemoryQueue, ScoreStream
from preceptor.types import Sequence
from preceptor_proto.v1 import common_pb2
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from tests.unit.preceptor_teacher.test_worker import FLOW, SAMPLED, TEACHER, Rig, task, until, worker

SOON_S = 0.4  # less than the first task takes
HOUR_S = 3600.0


class SlowEngine(FakeEngine):
    """Takes a second for each item; the first id of its context says which one."""

    @property
    def order(self) -> list[int]:
        return [int(one.sequence.ids[0]) for call in self.calls for one in call]


@pytest.mark.slow
async def test_what_is_late_is_not_computed_and_the_rest_goes_by_deadline() -> None:
    engine = SlowEngine(FakeOptions(name=TEACHER, tokens_per_s=5.0))
    queue = MemoryQueue()
    at = Rig(queue, ScoreStream(queue, FLOW), {})

    async def opened(name: str, first: int, left_s: float) -> None:
        inline = wire.sequence_to_proto(Sequence.of([first, 2, 3], [4, 5]))
        deadline_ms = int(1000 * (time.time() + left_s))
        await at.stream.open(task(name, SAMPLED, inline=inline, deadline_unix_ms=deadline_ms))

    async with worker(queue, InlineEngine(lambda: engine), batch_tasks=1, calls_in_flight=1) as one:
        await opened("first", 10, HOUR_S)
        await until(lambda: engine.calls)
        await opened("patient", 11, 2 * HOUR_S)
        await opened("urgent", 12, HOUR_S)
        await opened("late", 13, SOON_S)
        await until(lambda: one.held == 4)
        await at.until("first", "patient", "urgent", "late")
    assert engine.order == [10, 12, 11]
    assert at.error("late").code == common_pb2.DEADLINE_EXCEEDED
    assert at.error("late").field == "deadline_unix_ms"
    assert [at.row_count(name) for name in ("first", "patient", "urgent", "late")] == [2, 2, 2, 0]
    assert await queue.dead_letters(FLOW) == ()
