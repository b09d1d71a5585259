"""`GET /v1/status`: how this teacher service stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse

from preceptor import wire
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_teacher.rest.bodies import ErrorAnswer
from preceptor_teacher.rest.convert import teacher_answer

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService


class EngineAnswer(BaseModel):
    """One teacher's engine in this process, since its start."""

    teacher: str
    up: bool
    restarts: int
    waiting_tasks: int
    running_tasks: int
    tokens_computed: int
    tokens_reused: int
    cache_hits: int
    cache_misses: int
    cost_per_s: float | None
    """New tokens + row cost x rows, over about the last minute of busy time."""


class FlowAnswer(BaseModel):
    """What one job has in one band, as this process sees it."""

    teacher: str
    tenant: str
    job: str
    band: int
    weight: float
    queued_tasks: int
    queued_cost: float
    virtual_time: float
    oldest_wait_s: float
    served_tokens: int
    eta_s: float | None
    """Until all that is queued now is served."""


class QueueAnswer(BaseModel):
    """What one job has at the durable door, over all bands and workers."""

    teacher: str
    tenant: str
    job: str
    ready_tasks: int
    suspect_tasks: int
    leased_tasks: int
    unread_results: int
    unread_bytes: int
    dead_letters: int


class StatusAnswer(BaseModel):
    """All of it."""

    state: str
    worker: str
    reasons: dict[str, str]
    engines: list[EngineAnswer]
    flows: list[FlowAnswer]
    queues: list[QueueAnswer]
    teachers: list[dict[str, object]]


def status_router(service: TeacherService) -> APIRouter:
    """The route on this service."""
    router = door_router()

    @router.get("/v1/status", response_model=StatusAnswer, responses={"4XX": {"model": ErrorAnswer}})
    @needs(Scope.STATUS)
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
            }
        )

    return router
