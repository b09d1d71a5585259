"""The limits of scoring and grading once more, at their edges, through the REST door and in its words.

Behind the door stands a service that accepts everything: a refusal is the door's, and an acceptance is one, too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import APIRouter

from preceptor.config import TeacherSettings
from preceptor.config.settings import MIB
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.run import running
from preceptor_teacher.rest.routes import teacher_router
from scripts.limits_page import ONE_REQUIRED, Declared, declared
from tests.unit.limits.cases import Case, cases_of
from tests.unit.limits.rest_bodies import BEYOND_REST, ROUTES, beyond_rest, body_of
from tests.unit.limits.test_boundaries import AcceptsAll, is_large

ROOMY = 400 * MIB  # ids as text take several times their bytes
DETAIL = common_pb2.ErrorDetail(code="CANCELLED", message="accepted")
HEX = "text like ^([0-9a-f]{64})?$"
OTHER_WORDS: dict[tuple[str, str, str], tuple[str, str, str]] = {
    ("ScoreItem", "sequence", "required"): ("items[0]", "dict", "context and response, or segments"),
    ("Segment", "kind", ONE_REQUIRED): ("items[0].segments[0].kind", "nothing", "required"),
}
"""Field, value and limit where the body has another shape than the message."""


class AcceptsBodies(AcceptsAll):
    """The teacher's REST door over a service that has nothing to say."""

    def rest_routers(self) -> tuple[APIRouter, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (teacher_router(self),)  # pyright: ignore[reportArgumentType]

    async def score(self, request: teacher_pb2.ScoreRequest, call: object) -> teacher_pb2.ScoreReply:
        return teacher_pb2.ScoreReply(results=[teacher_pb2.ScoreResult(error=DETAIL)] * len(request.items))

    async def grade(self, request: teacher_pb2.GradeRequest, call: object) -> teacher_pb2.GradeReply:
        return teacher_pb2.GradeReply(results=[teacher_pb2.GradeResult(error=DETAIL)] * len(request.items))


@asynccontextmanager
async def door() -> AsyncGenerator[httpx.AsyncClient]:
    settings = TeacherSettings(grpc_port=0, rest_port=0, max_message_bytes=ROOMY)
    async with (
        running(AcceptsBodies(), settings) as house,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", timeout=120) as http,
    ):
        yield http


def reached() -> list[Declared]:
    """The limits that a body of this door can meet."""
    return [limit for limit in declared() if limit.call in ROUTES and beyond_rest(limit.name) is None]


async def hold(some: Iterable[Declared]) -> None:
    async with door() as http:
        for limit in some:
            for case in cases_of(limit):
                reply = await http.post(
                    ROUTES[limit.call], content=json.dumps(body_of(case.request)), headers={"Content-Type": "application/json"}
                )
                check(limit, case, reply)


def check(limit: Declared, case: Case, reply: httpx.Response) -> None:
    if case.limit is None:
        assert reply.status_code == 200, (case.what, reply.text[:500])
        return
    assert reply.status_code in (400, 413), (case.what, reply.status_code)
    told = reply.json()
    wanted = OTHER_WORDS.get(limit.name, (case.field, case.value, case.limit))
    if limit.owner.name == "ScoreRequest" and limit.path[-1].endswith("_sha256"):
        wanted = (case.field, told["value"], HEX)
    if case.limit == "a finite number":
        wanted = ("body", told["value"], "a number")
    field, value, bound = wanted
    assert (told["field"], told["limit"]) == (field, bound), (case.what, told)
    assert told["value"] == value or float(told["value"]) == float(value or "nan"), (case.what, told)


async def test_every_limit_holds_at_its_edge_over_rest_and_is_told_beyond_it():
    await hold(limit for limit in reached() if not is_large(limit))


@pytest.mark.slow
async def test_large_limits_hold_over_rest_too():
    await hold(limit for limit in reached() if is_large(limit))


def test_what_no_body_can_meet_is_listed_with_its_reason_and_nothing_else_is():
    names = [limit.name for limit in declared() if limit.call in ROUTES]
    for start in BEYOND_REST:
        assert any(name[: len(start)] == start for name in names), start
    assert len(reached()) > len(names) / 2
