"""Grading through the queue: what every door says, and what is a queue's own. The provider is the shipped stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from preceptor import wire
from preceptor.client import AsyncTeacherClient, GradeOptions
from preceptor.client.grading import grade_request, read_verdicts
from preceptor.errors import DeadlineExceeded, InvalidArgument, NotFound, PreceptorError, TooLarge, Unsupported
from preceptor.queue import Flow, GradeQueue, MemoryQueue, TaskState
from preceptor.queue.grading import name_of, task_of
from preceptor.types import GradeItem, Validity
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_teacher.testing import FaultPlan, StandIn
from tests.support.models import BUNDLED_TEACHER
from tests.unit.preceptor_teacher.grading.scripted import QUICK
from tests.unit.preceptor_teacher.grading.test_grade_door import FIRST, ITEMS, SECOND, judged

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
JOB = "run-1"
FLOW = Flow("judge", "local", JOB)


@dataclass(frozen=True)
class Rig:
    queue: MemoryQueue
    door: GradeQueue
    provider: StandIn
    grpc_port: int
    rest_port: int

    async def grade(self, *items: GradeItem, teacher: str = "judge", deadline_s: float = 20, **options: Any) -> list[Any]:
        request = grade_request(teacher, items, GradeOptions(**{"job": JOB, **options}))
        return read_verdicts(await self.door.grade(request, deadline_s=deadline_s), len(items))

    @property
    def calls(self) -> int:
        return self.provider.provider.seen["chat"]


@asynccontextmanager
async def rig(queue: MemoryQueue | None = None, **options: Any) -> AsyncGenerator[Rig]:
    queue = queue or MemoryQueue()
    async with judged(service={"queue": queue, "worker_policy": QUICK}, **options) as (house, provider):
        door = GradeQueue(queue, "local", deadline_s=20)
        try:
            yield Rig(queue, door, provider, house.grpc_port, house.rest_port)
        finally:
            await door.close()
            await queue.close()


async def over_grpc(at: Rig, items: list[GradeItem], options: GradeOptions) -> list[Any]:
    async with AsyncTeacherClient(f"127.0.0.1:{at.grpc_port}") as client:
        return list(await client.grade("judge", items, options, deadline_s=20))


async def over_rest(at: Rig, items: list[GradeItem], options: GradeOptions) -> list[Any]:
    body = {
        "teacher": "judge",
        "grader": options.grader,
        "items": [{"prompt": one.prompt, "response": one.response, "group": one.group} for one in items],
    }
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{at.rest_port}", trust_env=False, timeout=20) as http:
        return (await http.post("/v1/grade", json=body)).json()["results"]


def under_way() -> bool:
    """Whether the judge waits for its provider."""
    return any(one.get_name() == "provider-request" for one in asyncio.all_tasks())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.01)


def task_name(items: Sequence[GradeItem], number: int = 0) -> str:
    return f"{name_of(grade_request('judge', items, GradeOptions(job=JOB)))}/{number}"


async def until_state(at: Rig, task_id: str, states: set[TaskState]) -> None:
    async with asyncio.timeout(10):
        while (info := await at.queue.task_info(FLOW, task_id)) is None or info.state not in states:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("grader", ["verbal", pytest.param("pairwise", marks=pytest.mark.slow)])
async def test_verdicts_are_the_same_over_the_queue_grpc_and_rest_and_are_paid_once(grader):
    items = [replace(one, group="0") for one in (ITEMS[0], GradeItem(FIRST.prompt, FIRST.worked.split()[0]), ITEMS[2])]
    async with rig() as at:
        queued = await at.grade(*items, grader=grader)
        paid = at.calls
        assert paid == sum(one.calls for one in queued) > 0
        called, posted = [await over(at, items, GradeOptions(grader)) for over in (over_grpc, over_rest)]
        # another job pays for itself; what the verdict says is the same, but for how long it took
        same = [{**wire.verdict_body(one), **NOT_SAID} for one in queued]
        assert [{**wire.verdict_body(one), **NOT_SAID} for one in called] == same
        assert [{**one["verdict"], **NOT_SAID} for one in posted] == same
        assert [one.receipt.model.name for one in queued] == ["judge"] * 3
        assert await at.queue.read_out(FLOW) == (), "the entry was forgotten once it was read"


NOT_SAID = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": None}
REFUSED = [
    ("judge", GradeOptions("verbl"), ITEMS, NotFound, "spec.grader"),
    ("judge", GradeOptions(parameters={"url": "x"}), ITEMS, InvalidArgument, "spec.parameters_json.url"),
    ("judge", GradeOptions(), [], InvalidArgument, "items"),
    ("judge", GradeOptions(), [GradeItem("p", "r")] * 9, TooLarge, "items"),
    ("judge", GradeOptions(), [GradeItem("", "r")], InvalidArgument, "items[0].prompt"),
    ("judge", GradeOptions(), [GradeItem("p", "r" * (1 << 20) + "r")], TooLarge, "items[0].response"),
    ("scorer", GradeOptions(), ITEMS, Unsupported, "task.grade"),
]


async def test_wrong_requests_are_refused_by_field_cost_nothing_and_the_others_go_on():
    async with rig() as at:
        good = [asyncio.create_task(at.grade(item)) for item in ITEMS]
        for teacher, options, items, error, field in REFUSED:
            with pytest.raises(error) as refused:
                await at.door.grade(grade_request(teacher, items, options), deadline_s=20)
            assert refused.value.field == field
            assert refused.value.limit or refused.value.hint, f"{field} does not say what it should be"
        assert [one.reward for (one,) in await asyncio.gather(*good)] == [10.0, 0.0, 10.0]
        assert at.calls == 2


async def test_a_poisonous_question_is_a_dead_letter_after_three_strikes_and_stays_one():
    async with rig() as at:
        for _ in range(2):  # nobody tries a fourth time
            with pytest.raises(NotFound):
                await at.grade(ITEMS[0], grader="verbl")
            [letter] = [entry.letter for entry in await at.queue.dead_letters(FLOW)]
            assert (letter.attempts, letter.task.grade.grader, letter.reason.field) == (3, "verbl", "spec.grader")


@pytest.mark.slow
async def test_what_failed_for_one_text_and_what_the_judge_refused_stand_in_their_places():
    items = [*ITEMS[:2], GradeItem(SECOND.prompt, SECOND.worked)]
    async with rig(faults=FaultPlan(script=("expired_key", "refusal")), max_concurrency=1) as at:
        failed, refused, graded = await at.grade(*items)
        assert isinstance(failed, PreceptorError)
        assert failed.field == "items[0].api_key"
        assert (refused.reward, refused.validity) == (None, Validity.MISSING_PROVIDER)
        assert refused.reason
        assert graded.reward == 10.0


@pytest.mark.slow
async def test_a_deadline_that_passes_is_said_and_the_judge_stops():
    async with rig(faults=FaultPlan({"hang": 1.0}), max_attempts=1) as at:
        with pytest.raises(DeadlineExceeded) as late:
            await at.grade(ITEMS[0], deadline_s=0.3)
        assert late.value.field in ("teacher.teacher", "deadline_unix_ms")
        await until(lambda: not under_way())
        await until_state(at, task_name(ITEMS[:1]), {TaskState.CANCELLED, TaskState.FINISHED})
        assert await at.queue.ready_bands("judge") == ()
        assert await at.queue.dead_letters(FLOW) == ()


@pytest.mark.slow
async def test_a_task_whose_earlier_deadline_has_passed_is_opened_again_under_the_later_one():
    async with rig() as at:
        request = grade_request("judge", ITEMS[:1], GradeOptions(job=JOB))
        await at.queue.reopen(FLOW, task_of(request, task_name(ITEMS[:1]), 1), 0)
        assert [one.reward for one in await at.grade(ITEMS[0])] == [10.0]


async def test_who_gives_up_takes_the_question_back_and_may_ask_again():
    async with rig(faults=FaultPlan(script=("hang",)), max_attempts=1) as at:
        asking = asyncio.create_task(at.grade(ITEMS[0]))
        await until(lambda: at.calls == 1)
        assert under_way()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until_state(at, task_name(ITEMS[:1]), {TaskState.CANCELLED})
        await until(lambda: not under_way())  # the judge stopped
        assert [one.reward for one in await at.grade(ITEMS[0])] == [10.0]
        await until_state(at, task_name(ITEMS[:1], 1), {TaskState.FINISHED})


@pytest.mark.slow
async def test_equal_questions_at_once_are_one_task_that_outlives_the_first_to_go():
    async with rig() as at:
        first, second = (asyncio.create_task(at.grade(ITEMS[0])) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert [one.reward for one in await second] == [10.0]
        assert at.calls == 1
        assert await at.queue.task_info(FLOW, task_name(ITEMS[:1], 1)) is None


@pytest.mark.slow
async def test_a_result_that_its_reader_lost_is_asked_for_again_and_not_paid_again():
    request = grade_request("judge", ITEMS[:1], GradeOptions(job=JOB))
    async with rig() as at:
        for _ in range(2):  # the second one has read nothing yet, as after a restart
            door = GradeQueue(at.queue, "local", deadline_s=20)
            reply = await door.grade(request)
            await door.close()
            assert reply.results[0].verdict.reward == 10.0
        assert at.calls == 1


@pytest.mark.slow
async def test_a_flood_of_one_tenant_does_not_keep_another_one_waiting():
    """All of it is in the queue before the judge comes."""
    queue = MemoryQueue()
    doors = {tenant: GradeQueue(queue, tenant, deadline_s=20) for tenant in ("local", "other")}
    asking = {
        tenant: [asyncio.create_task(doors[tenant].grade(number_request(n))) for n in range(count)]
        for tenant, count in (("local", 24), ("other", 3))
    }
    for tenant, tasks in asking.items():
        for n in range(len(tasks)):
            while await queue.task_info(Flow("judge", tenant, JOB), f"{name_of(number_request(n))}/0") is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
    async with rig(queue, max_concurrency=1):
        await asyncio.gather(*asking["other"])
        served = sum(one.done() for one in asking["local"])
        assert served <= 9, f"{served} of the flood were served before three of the other tenant"
        await asyncio.gather(*asking["local"])
        await asyncio.gather(*(door.close() for door in doors.values()))


def number_request(number: int) -> teacher_pb2.GradeRequest:
    return grade_request("judge", [GradeItem(SECOND.prompt, f"{number}")], GradeOptions(job=JOB))


async def test_neither_a_judge_nor_a_scorer_reads_a_task_of_the_other_or_of_a_later_version():
    task = teacher_pb2.ScoreTask(schema=1, task_id="s", teacher=wire.choice_to_proto("judge"))
    task.inline.segments.add().response.u32le = b"\1\0\0\0"
    task.want.sampled = True
    later = task_of(grade_request("judge", ITEMS[:1], GradeOptions(job=JOB)), "later", 0)
    queue = MemoryQueue()
    await queue.reopen(FLOW, task, 0)
    async with rig(queue) as at:
        async with AsyncTeacherClient(f"127.0.0.1:{at.grpc_port}") as client:
            assert [one.teacher for one in (await client.status()).queues] == ["judge"]
        await until_state(at, "s", {TaskState.DEAD})
        [letter] = await at.queue.dead_letters(FLOW)
        assert (letter.letter.reason.code, letter.letter.reason.field) == (common_pb2.UNSUPPORTED, "task.source")
        later.schema = 3
        with pytest.raises(Unsupported) as refused:
            await at.queue.reopen(FLOW, later, 0)
        assert (refused.value.field, refused.value.value, refused.value.limit) == ("task.schema", "3", "2")
        assert at.calls == 0


@pytest.mark.slow
async def test_a_drained_judge_says_how_many_requests_at_its_doors_it_still_has():
    async with rig(faults=FaultPlan({"hang": 1.0}), max_attempts=1) as at:
        asking = asyncio.create_task(over_grpc(at, [ITEMS[0]], GradeOptions(job=JOB)))
        await until(lambda: at.calls)
        async with AsyncTeacherClient(f"127.0.0.1:{at.grpc_port}") as client:
            assert (await client.drain("judge")).tasks == 1
            asking.cancel()
            await asyncio.wait([asking])
            async with asyncio.timeout(10):
                while (await client.drain("judge")).tasks:  # noqa: ASYNC110 - nobody says when
                    await asyncio.sleep(0.01)
