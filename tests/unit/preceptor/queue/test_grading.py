"""Who asks a judge through the queue, goes away, and asks again, while the queue is slow to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from preceptor.client.grading import GradeOptions, grade_request
from preceptor.errors import Cancelled, TooLarge
from preceptor.queue import Flow, GradeQueue, MemoryQueue, TaskInfo, TaskState, Then
from preceptor.queue.grading import name_of
from preceptor.types import GradeItem, ModelRef
from preceptor_proto.v1 import teacher_pb2

JOB, JUDGE = "run-1", ModelRef("judge")
FLOW = Flow("judge", "local", JOB)


class Slow(MemoryQueue):
    """Keeps calls of one kind waiting for `go`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind, self.asked, self.go = kind, asyncio.Event(), asyncio.Event()

    async def poke(self, flow: Flow, task_id: str) -> TaskInfo | None:
        await self._pass("poke")
        return await super().poke(flow, task_id)

    async def cancel(self, flow: Flow, task_id: str) -> None:
        await self._pass("cancel")
        await super().cancel(flow, task_id)

    async def _pass(self, kind: str) -> None:
        if kind == self._kind:
            self.asked.set()
            await self.go.wait()


@asynccontextmanager
async def asking(queue: MemoryQueue) -> AsyncGenerator[GradeQueue]:
    async with asyncio.timeout(10):
        door = GradeQueue(queue, "local", deadline_s=10)
        yield door
        await door.close()
        await queue.close()


def request(response: str = "r") -> teacher_pb2.GradeRequest:
    return grade_request("judge", [GradeItem("p", response)], GradeOptions(job=JOB))


async def until_open(queue: MemoryQueue, response: str, number: int = 0) -> None:
    while await queue.task_info(FLOW, f"{name_of(request(response))}/{number}") is None:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def answer(queue: MemoryQueue) -> None:
    """One result to every task that is ready."""
    for lease in await queue.lease(FLOW, "worker", band=0, limit=9, alone=False, latest=JUDGE):
        grades = teacher_pb2.GradeReply(results=[teacher_pb2.GradeResult()])
        await queue.commit(lease, [teacher_pb2.Envelope(grades=grades)], lease.scored_upto, Then.FINISH)


async def test_who_asked_first_may_go_before_the_task_is_open_and_the_next_still_has_its_verdict():
    queue = Slow("poke")
    async with asking(queue) as door:
        first = asyncio.create_task(door.grade(request()))
        await queue.asked.wait()
        second = asyncio.create_task(door.grade(request()))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        queue.go.set()
        await until_open(queue, "r")
        await answer(queue)
        assert len((await second).results) == 1


async def test_who_asks_while_the_same_question_is_taken_back_asks_anew():
    queue = Slow("cancel")
    async with asking(queue) as door:
        first = asyncio.create_task(door.grade(request()))
        await until_open(queue, "r")
        first.cancel()
        await queue.asked.wait()
        second = asyncio.create_task(door.grade(request()))
        await until_open(queue, "r", 1)
        queue.go.set()
        await asyncio.wait([first])
        await answer(queue)
        assert len((await second).results) == 1


async def test_a_verdict_that_comes_while_the_client_closes_does_not_break_the_closing():
    queue = Slow("cancel")
    async with asking(queue) as door:
        waiting = [asyncio.create_task(door.grade(request(one))) for one in "ab"]
        for one in "ab":
            await until_open(queue, one)
        closing = asyncio.create_task(door.close())
        await queue.asked.wait()
        await answer(queue)
        await asyncio.sleep(0.01)
        queue.go.set()
        await closing
        assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [Cancelled] * 2


async def test_what_is_taken_back_before_it_is_open_does_not_stay_open():
    queue = Slow("poke")
    async with asking(queue) as door:
        only = asyncio.create_task(door.grade(request()))
        await queue.asked.wait()
        only.cancel()
        await asyncio.sleep(0.01)
        queue.go.set()
        with pytest.raises(asyncio.CancelledError):
            await only
        info = await queue.task_info(FLOW, f"{name_of(request())}/0")
        assert info is None or info.state is TaskState.CANCELLED


async def test_a_request_that_no_server_takes_as_one_value_is_refused_before_it_is_opened_and_others_go_on():
    queue = MemoryQueue()
    async with asking(queue) as door:
        large = grade_request("judge", [GradeItem("p", "r" * (1 << 20))] * 65, GradeOptions(job=JOB))
        with pytest.raises(TooLarge) as refused:
            await door.grade(large)
        assert (refused.value.field, refused.value.limit) == ("items", f"<= {64 << 20} bytes")
        assert await queue.task_info(FLOW, f"{name_of(large)}/0") is None
        other = asyncio.create_task(door.grade(request()))
        await until_open(queue, "r")
        await answer(queue)
        assert len((await other).results) == 1
