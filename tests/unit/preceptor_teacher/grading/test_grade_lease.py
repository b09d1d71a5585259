"""A worker that leases tasks of texts for rules, which cost nothing: quotas, drains, tasks without a deadline, counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from preceptor.client.grading import GradeOptions, grade_request
from preceptor.errors import TooLarge
from preceptor.queue import Flow, GradeQueue, MemoryQueue, TaskState
from preceptor.queue.grading import task_of
from preceptor.queue.quotas import Counter, QuotaLimits
from preceptor.types import GradeItem
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.terms import Terms
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import QueueLimits
from preceptor_teacher.boundary import Bounds
from preceptor_teacher.checks import Checker, CheckSpec
from preceptor_teacher.judging import Court
from preceptor_teacher.worker import Grading, QueueWorker
from tests.unit.preceptor_teacher.grading.scripted import QUICK

JOB = "job"
FLOW = Flow("rules", "local", JOB)


@dataclass(frozen=True)
class Rig:
    queue: MemoryQueue
    door: GradeQueue
    worker: QueueWorker
    accounts: Accounts


@asynccontextmanager
async def rig(limits: QuotaLimits | None = None) -> AsyncGenerator[Rig]:
    queue, checker = MemoryQueue(), Checker(CheckSpec("checks", ("rules",)))
    accounts = Accounts(lambda tenant, job: Terms(limits or QuotaLimits()))
    court = Court(checker, accounts, QueueLimits(), Bounds(8, 1, 1 << 20))
    worker = QueueWorker(queue, Grading(court), ["checks", "rules"], "worker", QUICK, accounts=accounts)
    door = GradeQueue(queue, "local", deadline_s=10)
    accounts.start()
    worker.start()
    try:
        yield Rig(queue, door, worker, accounts)
    finally:
        await door.close()
        await worker.stop(1.0)
        await accounts.close()
        await checker.close()
        await queue.close()


def question(*responses: str) -> teacher_pb2.GradeRequest:
    items = [GradeItem("2+3=", one, reference="5") for one in responses]
    return grade_request("rules", items, GradeOptions("exact", job=JOB))


def rewards(reply: teacher_pb2.GradeReply) -> list[float]:
    return [one.verdict.reward for one in reply.results]


@pytest.mark.slow
async def test_what_a_tenant_may_have_at_once_bounds_its_tasks_and_strikes_none_that_fits():
    async with rig(QuotaLimits(in_flight=2)) as at:
        replies = await asyncio.gather(*(at.door.grade(question(f"{n}", "5")) for n in range(5)))
        assert [rewards(one) for one in replies] == [[0.0, 1.0]] * 5
        with pytest.raises(TooLarge) as refused:
            await at.door.grade(question("1", "2", "3"))
        assert (refused.value.field, len(await at.queue.dead_letters(FLOW))) == ("quota.in_flight", 1)
        await at.door.grade(question("6", "7"))  # nothing is reserved any more


async def test_a_task_is_one_request_of_its_job_at_the_teacher_whichever_name_it_used():
    async with rig() as at:
        await asyncio.gather(*(at.door.grade(question(f"{n}", "5")) for n in range(3)))
        usage = await at.accounts.usage(["checks", "rules"], "local")
        assert usage[JOB][Counter.REQUESTS] == 3


async def test_a_task_without_a_deadline_is_answered_and_one_of_a_drained_teacher_waits():
    async with rig() as at:
        at.worker.drain()
        while at.worker.finishing:  # noqa: ASYNC110 - a lease may just be taken
            await asyncio.sleep(0.01)
        await at.queue.reopen(FLOW, task_of(question("5"), "by-hand", 0), 0)
        await asyncio.sleep(4 * QUICK.wait_ready_s)
        info = await at.queue.task_info(FLOW, "by-hand")
        assert info is not None
        assert info.state is TaskState.READY
        at.worker.resume()
        [entry] = await at.queue.read_out(FLOW, timeout_s=5)
        assert (entry.envelope.task_id, entry.envelope.schema, entry.envelope.finished) == ("by-hand", 2, True)
        assert rewards(entry.envelope.grades) == [1.0]
