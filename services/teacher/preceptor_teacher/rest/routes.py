"""The teacher's REST door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_json import beside_others
from preceptor_serving.doors.rest_pieces import json_reply
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_teacher.rest.bodies import ErrorAnswer, ScoreAnswer, ScoreBody, TeachersAnswer
from preceptor_teacher.rest.convert import teacher_answer, to_answer, to_request
from preceptor_teacher.rest.grading import GradeAnswer, GradeBody, to_grade_answer, to_grade_request

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}}


def teacher_router(service: TeacherService) -> APIRouter:
    """`POST /v1/score`, `POST /v1/grade` and `GET /v1/teachers` on this service."""
    router = door_router()

    @router.post("/v1/score", response_model=ScoreAnswer, responses=ERRORS)
    @needs(Scope.SCORE)
    async def score(body: ScoreBody, call: CurrentCall, http: Request) -> Response:
        """Scores a batch of sequences; each item succeeds or fails alone."""
        request = await beside_others(http, to_request, body)
        return await json_reply(to_answer(request, await service.score(request, call)))

    @router.post("/v1/grade", response_model=GradeAnswer, responses=ERRORS)
    @needs(Scope.GRADE)
    async def grade(body: GradeBody, call: CurrentCall, http: Request) -> Response:
        """Judges a batch of responses by text; each item succeeds or fails alone."""
        request = await beside_others(http, to_grade_request, body)
        return await json_reply(to_grade_answer(await service.grade(request, call)))

    @router.get("/v1/teachers", response_model=TeachersAnswer, responses=ERRORS)
    @needs(Scope.SCORE)
    async def teachers(call: CurrentCall) -> JSONResponse:
        """The teachers of this service: versions, digests, capabilities."""
        return JSONResponse({"teachers": [teacher_answer(info) for info in service.infos()]})

    @router.get("/v1/teachers/{name}", response_model=TeachersAnswer, responses=ERRORS)
    @needs(Scope.SCORE)
    async def one_teacher(name: str, call: CurrentCall) -> JSONResponse:
        """The versions of one teacher, newest first."""
        return JSONResponse({"teachers": [teacher_answer(info) for info in service.infos(name, "name")]})

    return router
