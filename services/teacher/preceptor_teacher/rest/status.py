"""`GET /v1/status`: how this teacher service stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse

from preceptor import wire
from preceptor.types import BudgetStatus, EngineStatus, FlowStatus, QueueStatus
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_teacher.rest.bodies import ErrorAnswer
from preceptor_teacher.rest.convert import teacher_answer

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService


class StandingAnswer(BaseModel):
    """Where one teacher is in its life, and when its engine's process last answered."""

    teacher: str
    state: str
    heard_s: float | None


class StatusAnswer(BaseModel):
    """All of it."""

    state: str
    worker: str
    reasons: dict[str, str]
    engines: list[EngineStatus]
    flows: list[FlowStatus]
    queues: list[QueueStatus]
    teachers: list[dict[str, object]]
    standings: list[StandingAnswer]
    budgets: list[BudgetStatus]


def status_router(service: TeacherService) -> APIRouter:
    """The route on this service."""
    router = door_router()

    @router.get("/v1/status", response_model=StatusAnswer, responses={"4XX": {"model": ErrorAnswer}})
    @needs(Scope.STATUS, always=True)
    async def status(call: CurrentCall) -> JSONResponse:
        """Engines, queues and what is wrong, for people who look."""
        found = wire.teacher_status_from_proto(await service.status(teacher_pb2.StatusRequest(), call))
        return JSONResponse(
            {
                "state": str(found.state),
                "worker": found.worker,
                "reasons": dict(found.reasons),
                "engines": [asdict(engine) for engine in found.engines],
                "flows": [asdict(flow) for flow in found.flows],
                "queues": [asdict(queue) for queue in found.queues],
                "teachers": [teacher_answer(info) for info in found.teachers],
                "standings": [{**asdict(one), "state": str(one.state)} for one in found.standings],
                "budgets": [asdict(one) for one in found.budgets],
            }
        )

    return router
