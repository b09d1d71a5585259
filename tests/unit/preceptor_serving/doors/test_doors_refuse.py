"""A door does not open over a service that forgot something."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from preceptor.errors import ConfigurationError
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.gate import OpenGate
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.grpc_calls import generic_handler
from preceptor_serving.doors.rest_app import rest_app
from preceptor_serving.doors.rest_routes import door_router, needs
from preceptor_serving.frame.frame import Frame, FrameLimits
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.metrics import Meters
from preceptor_serving.service import GrpcService, Rpc

TEACHER = teacher_pb2.DESCRIPTOR.services_by_name["Teacher"]


@pytest.fixture
async def frame() -> Frame:
    return Frame(Lifecycle(), OpenGate(), Meters(), FrameLimits(max_message_bytes=1 << 20, max_deadline_s=60.0))


async def nothing(request: object, call: object) -> object:
    return request


@pytest.mark.parametrize(("change", "named"), [({"Dream"}, "Dream"), ({"Score"}, "Score")], ids=["too many", "too few"])
async def test_calls_and_handlers_have_to_agree(frame: Frame, change: set[str], named: str) -> None:
    names = {method.name for method in TEACHER.methods} ^ change
    service = GrpcService(TEACHER, {name: Rpc(nothing, Scope.SCORE) for name in names})
    with pytest.raises(ConfigurationError) as caught:
        generic_handler(service, frame)
    assert caught.value.value == named


def test_a_route_without_a_scope_cannot_be_declared() -> None:
    async def forgotten() -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        door_router().get("/forgotten")(forgotten)
    assert (caught.value.field, caught.value.value) == ("needs", "/forgotten")


async def test_a_route_outside_the_frame_is_refused(frame: Frame) -> None:
    router = APIRouter()

    @router.get("/unframed")
    @needs(Scope.SCORE)
    async def unframed() -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        rest_app("teacher", (router,), frame)
    assert (caught.value.field, caught.value.value) == ("routers", "/unframed")
