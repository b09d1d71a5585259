"""`POST /v1/drain`: takes teachers out of work before their machine is, and back into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel

from preceptor import limits
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_teacher.rest.bodies import Body, ErrorAnswer

if TYPE_CHECKING:
    from preceptor_teacher.service import TeacherService


class DrainBody(Body):
    """Asked again, it changes nothing and tells what is left."""

    teacher: str = ""
    """A name or an alias; empty: all teachers of the service."""

    undo: bool = False
    """Take work again."""

    stop: bool = False
    """End the service in order, as a SIGTERM would."""


class DrainAnswer(BaseModel):
    """`draining` has every teacher of the service that takes no new work; tasks and leases are those of the named ones."""

    draining: list[str]
    tasks: int
    leases: int


def drain_router(service: TeacherService) -> APIRouter:
    """The route on this service."""
    router = door_router()

    @router.post("/v1/drain", response_model=DrainAnswer, responses={"4XX": {"model": ErrorAnswer}})
    @needs(Scope.ADMIN)
    async def drain(body: DrainBody, call: CurrentCall) -> DrainAnswer:
        """New requests are refused and accepted ones finished, until it is undone; done when no tasks and leases are left."""
        request = teacher_pb2.DrainRequest(teacher=body.teacher, undo=body.undo, stop=body.stop)
        limits.check(request)
        left = await service.drain(request, call)
        return DrainAnswer(draining=list(left.draining), tasks=left.tasks, leases=left.leases)

    return router
