"""A service without doors ends with its block, whatever its calls do."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from preceptor.config.settings import TeacherSettings
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.inline import calling
from preceptor_serving.service import GrpcService, Rpc, ServiceContext


class Hangs:
    """A service whose one call never answers."""

    name = "hangs"

    def __init__(self) -> None:
        self.called, self.stopped = asyncio.Event(), False

    async def describe(self, request: object, call: object) -> object:
        self.called.set()
        return await asyncio.get_running_loop().create_future()

    def grpc_services(self) -> tuple[GrpcService, ...]:
        return (GrpcService(teacher_pb2.DESCRIPTOR.services_by_name["Teacher"], {"Describe": Rpc(self.describe, Scope.SCORE)}),)

    def rest_routers(self) -> tuple[()]:
        return ()

    async def start(self, context: ServiceContext) -> None: ...

    async def stop(self) -> None:
        self.stopped = True


async def test_a_call_that_never_answers_does_not_hold_the_end_of_the_run() -> None:
    service = Hangs()
    with capture_logs() as told:
        async with asyncio.timeout(30):
            async with calling(service, TeacherSettings(drain_grace_s=0.05)) as caller:
                request = caller.call("Describe", teacher_pb2.DescribeRequest(), teacher_pb2.DescribeReply, deadline_s=600)
                hanging = asyncio.create_task(request)
                await service.called.wait()
    assert service.stopped
    assert [(line["event"], line["in_flight"]) for line in told if "in_flight" in line] == [("requests_left_behind", 1)]
    hanging.cancel()
    await asyncio.wait({hanging})
