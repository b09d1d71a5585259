"""Grade through every door of a teacher service whose only teacher is a provider: the shipped stand-in, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any

import httpx
import pytest

from examples.tiny.task import load
from preceptor.client import AsyncTeacherClient, GradeOptions, ScoreItem
from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError, InvalidArgument, NotFound, PreceptorError, TooLarge, Unavailable, Unsupported
from preceptor.types import CacheTier, GradeItem, Sequence, Validity, Verdict, Want
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_teacher.api import ApiOptions
from preceptor_teacher.judges import JudgeSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import FaultPlan, StandIn, standing_in
from tests.support.models import BUNDLED_TEACHER
from tests.unit.preceptor_teacher.test_service import spec

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
KEY = "sk-canary-fedcba9876543210"
FIRST, SECOND = load("heldout")[:2]
ITEMS = [GradeItem(FIRST.prompt, FIRST.worked), GradeItem(SECOND.prompt, "834"), GradeItem(FIRST.prompt, FIRST.worked)]


@asynccontextmanager
async def judged(
    *, faults: FaultPlan | None = None, key: str = KEY, max_batch_items: int = 8, service: dict[str, Any] | None = None, **options
) -> AsyncGenerator[tuple[RunningService, StandIn]]:
    async with standing_in(BUNDLED_TEACHER, faults=faults, api_key=KEY) as provider:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROVIDER_KEY", key)
            here = {"private_hosts": ("127.0.0.1",), "api_key_env": "PROVIDER_KEY"}
            judge = ApiOptions(base_url=provider.base_url, model="m", **here, **options)
            place: Any = lambda made, _: InlineEngine(lambda: FakeEngine(FakeOptions(**made.options)))  # noqa: E731
            teachers = TeacherService((JudgeSpec("judge", judge, ("critic",)), spec("scorer")), place, **(service or {}))
            settings = TeacherSettings(grpc_port=0, rest_port=0, max_batch_items=max_batch_items)
            async with running(teachers, settings) as house:
                yield house, provider


async def grade(house: RunningService, *items: GradeItem, name: str = "judge", options: GradeOptions | None = None) -> list[Any]:
    async with AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
        return list(await client.grade(name, items, options or GradeOptions(), deadline_s=30))


async def test_verdicts_come_in_order_through_grpc_and_rest_and_equal_texts_are_paid_once():
    async with judged() as (house, provider):
        right, wrong, again = await grade(house, *ITEMS)
        assert [one.reward for one in (right, wrong, again)] == [10.0, 0.0, 10.0]
        assert {one.validity for one in (right, wrong, again)} == {Validity.OK}
        assert (right.calls, wrong.calls, again.calls, again.tokens) == (1, 1, 0, 0)
        assert provider.provider.seen["chat"] == 2
        assert (right.receipt.model.name, right.receipt.engine, right.receipt.tokens_computed) == ("judge", "api", right.tokens)
        assert (again.receipt.cache, again.receipt.tokens_reused) == (CacheTier.MEMORY, right.tokens)
        assert [one.reward for one in await grade(house, *ITEMS, name="critic")] == [10.0, 0.0, 10.0]
        body = {"teacher": "judge", "items": [{"prompt": item.prompt, "response": item.response} for item in ITEMS]}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False) as http:
            reply = (await http.post("/v1/grade", json=body, timeout=30)).json()
            assert [one["verdict"]["reward"] for one in reply["results"]] == [10.0, 0.0, 10.0]
            assert reply["results"][0]["verdict"]["validity"] == "ok"
            wrong_field = await http.post("/v1/grade", json={**body, "base_url": "http://169.254.169.254"})
            assert (wrong_field.status_code, wrong_field.json()["field"]) == (400, "base_url")
            assert KEY not in (await http.get("/v1/teachers")).text


async def test_steps_and_their_ends_come_through_grpc_and_rest_and_a_shared_beginning_is_paid_once():
    first, *rest = FIRST.worked.split()
    text = " ".join([first, "7+7=7", *rest[1:]])
    items = [GradeItem(FIRST.prompt, text, unsure_at=(0, len(first))), GradeItem(FIRST.prompt, first)]
    options = GradeOptions(grader="chunks", parameters={"chunk_words": 1, "most_chunks": 2})
    async with judged() as (house, provider):
        verdicts = await grade(house, *items, options=options)
        assert [one.step_rewards[:2] for one in verdicts] == [(1.0, 0.0), (1.0, 0.0)]
        assert all(one != one for one in verdicts[0].step_rewards[2:]), "nobody was asked about these"
        assert (verdicts[0].step_ends[0], verdicts[0].step_ends[-2:]) == (len(first), (len(text),) * 2)
        assert provider.provider.seen["continued"] == sum(one.calls for one in verdicts) == 2
        said = [{"prompt": one.prompt, "response": one.response, "unsure_at": list(one.unsure_at)} for one in items]
        body = {"teacher": "judge", "items": said, "grader": "chunks", "parameters": dict(options.parameters)}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False) as http:
            reply = (await http.post("/v1/grade", json=body, timeout=30)).json()
        read = [one["verdict"] for one in reply["results"]]
        assert [one["step_rewards"][:2] for one in read] == [[1.0, 0.0], [1.0, 0.0]]
        assert read[0]["step_rewards"][2:] == [None] * (len(verdicts[0].step_rewards) - 2)
        assert [tuple(one["step_ends"]) for one in read] == [one.step_ends for one in verdicts]


async def test_a_judge_is_described_and_is_no_scorer():
    async with judged() as (house, _), AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
        [info] = await client.describe("critic")
        assert (info.model.name, info.engine, info.capabilities.graders) == (
            "judge",
            "api",
            ("best_of_n", "chunks", "contrast", "critique", "pairwise", "rubric", "verbal"),
        )
        assert (info.capabilities.judge, info.capabilities.sampled) == (True, False)
        assert [one.model.name for one in await client.describe()] == ["scorer", "judge"]
        with pytest.raises(Unsupported, match="grades text") as scored:
            await client.score("judge", [ScoreItem(Sequence.of([1], [2]), Want(sampled=True))])
        assert "scorer" in scored.value.hint
        with pytest.raises(Unsupported, match="scores tokens") as graded:
            await client.grade("scorer", ITEMS)
        assert "judge" in graded.value.hint


@pytest.mark.parametrize(
    ("name", "options", "items", "error", "field"),
    [
        ("juge", GradeOptions(), ITEMS, NotFound, "teacher.teacher"),
        ("judge", GradeOptions("verbl"), ITEMS, NotFound, "spec.grader"),
        ("judge", GradeOptions(parameters={"url": "x"}), ITEMS, InvalidArgument, "spec.parameters_json.url"),
        ("judge", GradeOptions(), [], InvalidArgument, "items"),
        ("judge", GradeOptions(), [GradeItem("p", "r")] * 9, TooLarge, "items"),
        ("judge", GradeOptions(), [GradeItem("", "r")], InvalidArgument, "items[0].prompt"),
        ("judge", GradeOptions(), [GradeItem("p", "r" * (1 << 20) + "r")], TooLarge, "items[0].response"),
    ],
)
async def test_wrong_requests_are_refused_by_field_and_cost_nothing(name, options, items, error, field):
    async with judged() as (house, provider):
        with pytest.raises(error) as refused:
            await grade(house, *items, name=name, options=options)
        assert refused.value.field == field
        assert provider.provider.seen["chat"] == 0


async def test_the_teacher_s_own_limits_of_grading_hold_at_their_edges_over_rest():
    item = {"prompt": FIRST.prompt, "response": FIRST.worked}
    async with (
        judged(max_batch_items=3) as (house, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False, timeout=30) as http,
    ):
        for count, guidance, status, field in (
            (2, 3999, 200, ""),
            (3, 4000, 200, ""),
            (4, 0, 413, "items"),
            (1, 4001, 400, "spec.parameters_json.guidance"),
        ):
            body = {"teacher": "judge", "items": [item] * count, "parameters": {"guidance": "g" * guidance}}
            reply = await http.post("/v1/grade", json=body)
            assert (reply.status_code, reply.json().get("field", "")) == (status, field), reply.text[:300]
            if status == 200:
                assert [set(result) for result in reply.json()["results"]] == [{"verdict"}] * count


async def test_a_rubric_is_paid_once_a_prompt_and_critiques_come_through_both_doors():
    half = GradeItem(FIRST.prompt, " ".join(FIRST.worked.split()[:2]))
    async with judged() as (house, provider):
        whole, part = await grade(house, ITEMS[0], half, options=GradeOptions("rubric"))
        assert (whole.reward, part.reward) == (1.0, 0.5)
        assert [one.score for one in part.criteria] == [1.0, 1.0, 0.0, 0.0]
        assert whole.calls + part.calls == provider.provider.seen["chat"] == 4  # an answer, a rubric, two verifications
        edited_to = [replace(one.criterion, weight=1 + 2 * (n == 3)) for n, one in enumerate(part.criteria)]
        given = [asdict(one) for one in edited_to]
        [imported] = await grade(house, half, options=GradeOptions("rubric", criteria=edited_to))
        body = {"teacher": "judge", "items": [asdict(half)], "grader": "rubric", "parameters": {"criteria": given}}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=30) as http:
            [edited] = (await http.post("/v1/grade", json=body)).json()["results"]
            body = {"teacher": "judge", "items": [asdict(half)], "grader": "critique"}
            [told] = (await http.post("/v1/grade", json=body)).json()["results"]
        assert edited["verdict"]["reward"] == imported.reward == pytest.approx(1 / 3)
        assert [{key: one[key] for key in ("text", "weight", "name")} for one in edited["verdict"]["criteria"]] == given
        assert (told["verdict"]["reward"], told["verdict"]["critique"]) == (5.0, f"Word 3 should be {FIRST.worked.split()[2]}.")
        [same] = await grade(house, half, options=GradeOptions("critique"))
        assert (same.critique, same.calls) == (told["verdict"]["critique"], 0)


async def test_a_group_is_compared_through_both_doors_paid_once_and_what_was_noticed_is_on_the_page():
    words = FIRST.worked.split()
    pool = [GradeItem(FIRST.prompt, " ".join(words[:count]), group="0") for count in (len(words), 1, 2)]
    async with judged() as (house, provider):
        verdicts = await grade(house, *pool, options=GradeOptions("pairwise"))
        assert [one.reward for one in verdicts] == [1.0, 0.0, 0.5]
        assert sum(one.calls for one in verdicts) == provider.provider.seen["chat"] == 6
        body = {"teacher": "judge", "items": [asdict(item) for item in pool]}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=30) as http:
            again = (await http.post("/v1/grade", json={**body, "grader": "pairwise"})).json()["results"]
            best = (await http.post("/v1/grade", json={**body, "grader": "best_of_n"})).json()["results"]
            one = (await http.post("/v1/grade", json={**body, "items": body["items"][:1], "grader": "pairwise"})).json()
            page = (await http.get("/metrics")).text
        assert [(one["verdict"]["reward"], one["verdict"]["calls"]) for one in again] == [(1.0, 0), (0.0, 0), (0.5, 0)]
        assert again[2]["verdict"]["criteria"][0] | {"name": ""} == again[2]["verdict"]["criteria"][0] | {
            "name": "",
            "score": 0.0,
        }
        assert [one["verdict"]["reward"] for one in best] == [1.0, 0.0, 0.0]
        assert one["results"][0]["error"]["field"] == "items[0].group"
        counted = 'preceptor_judgements_total{grader="pairwise",outcome="agreed",teacher="judge",what="orders"} 6.0'
        assert counted in page
        assert provider.provider.seen["chat"] == 8


@pytest.mark.slow
async def test_overload_and_failures_are_outlasted():
    faults = FaultPlan(script=("server_error", "rate_limited", "server_error"))
    async with judged(faults=faults, max_concurrency=1) as (house, provider):
        [verdict] = await grade(house, ITEMS[0])
        assert isinstance(verdict, Verdict)
        assert (verdict.reward, verdict.calls, provider.provider.seen["chat"]) == (10.0, 4, 4)


@pytest.mark.slow
async def test_a_provider_that_hangs_or_fails_fails_its_item_alone_and_readiness_says_so():
    faults = FaultPlan(script=("hang",))
    async with judged(faults=faults, max_concurrency=1, max_attempts=1, timeout_s=4.0) as (house, _):
        hung, graded = await grade(house, ITEMS[0], ITEMS[1])
        assert isinstance(hung, Unavailable)
        assert hung.field == "items[0]"
        assert graded.reward == 0.0
    async with judged(faults=FaultPlan({"server_error": 1.0}), max_attempts=1) as (house, _):
        [failed] = await grade(house, ITEMS[0])
        assert isinstance(failed, Unavailable)
        assert "503" in house.lifecycle.status().reasons["judge:judge"]


async def test_a_wrong_key_is_told_without_the_key():
    async with judged(key="sk-canary-wrong-wrong") as (house, provider):
        [refused] = await grade(house, ITEMS[0])
        assert isinstance(refused, ConfigurationError)
        assert "invalid_api_key" in refused.message
        assert provider.provider.seen["chat"] == 1
        assert not any("canary" in text for text in (str(refused), refused.value, refused.limit))


async def test_a_missing_key_keeps_the_service_from_starting():
    with pytest.raises(PreceptorError, match="holds no key"):
        async with judged(key=""):
            pass
