"""The friendly door of the student service: where a run stands. Training itself travels over gRPC only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from preceptor import limits
from preceptor_proto.v1 import common_pb2, student_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs

if TYPE_CHECKING:
    from preceptor_student.service import StudentService


def student_router(service: StudentService) -> APIRouter:
    """The routes of one service."""
    router = door_router("/v1")

    @router.get("/runs/{run}", tags=["student"])
    @needs(Scope.TRAIN)
    async def run_status(run: str, call: CurrentCall) -> dict[str, Any]:
        """Epoch, applied and durable step, and the newest published version of a run."""
        request = student_pb2.StudentStatusRequest(run=run)
        limits.check(request)
        return _told(await service.status(request, call))

    return router


def _told(status: student_pb2.StudentStatus) -> dict[str, Any]:
    published = status.published
    return {
        "run": status.run,
        "epoch": status.epoch,
        "applied_step": status.applied_step,
        "durable_step": status.durable_step,
        "state": common_pb2.ServiceState.Name(status.state).removeprefix("SERVICE_STATE_").lower(),
        "published": {"epoch": published.epoch, "step": published.step, "manifest_sha256": published.manifest_sha256.hex()}
        if status.HasField("published")
        else None,
    }
