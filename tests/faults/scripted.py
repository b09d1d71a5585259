"""The services around a learner and a worker under test: scripted, countable, and behind real gRPC doors.

What they keep is kept by the conductor, so a kill of learner, worker or queue cannot take their evidence with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter
from google.protobuf.descriptor import ServiceDescriptor

from preceptor import wire
from preceptor.config.settings import RolloutSettings, StudentSettings, TeacherSettings
from preceptor.errors import Unsupported
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.frame.call import Call
from preceptor_serving.run import RunningService, running
from preceptor_serving.service import GrpcService, Rpc, ServiceContext
from tests.faults.worker_process import TEACHER
from tests.unit.preceptor.learner.world import FakeRollout, FakeStudent, FakeTeacher

ENGINE_INFO = FakeEngine(FakeOptions(name=TEACHER)).describe()[0]
OPEN = {"grpc_port": 0, "rest_port": 0}


class Player(FakeRollout):
    """Draws tokens of the fake engine's tokenizer."""

    async def describe(self, *, deadline_s: float) -> rollout_pb2.RolloutDescribeReply:
        self._call("describe")
        return rollout_pb2.RolloutDescribeReply(student=wire.model_info_to_proto(replace(ENGINE_INFO, model=self.weights)))


class Tutor(FakeTeacher):
    """Describes the fake engine, which scores through the queue only, and judges."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(ENGINE_INFO, capabilities=replace(ENGINE_INFO.capabilities, streaming=True))


@dataclass
class Scripted:
    """A `Service` whose calls go to a scripted port."""

    name: str
    descriptor: ServiceDescriptor
    handlers: dict[str, Callable[[Any, Call], Any]]

    def grpc_services(self) -> tuple[GrpcService, ...]:
        rest = {method.name: Rpc(_not_here, Scope.SCORE) for method in self.descriptor.methods}
        return (GrpcService(self.descriptor, rest | {name: Rpc(made, Scope.SCORE) for name, made in self.handlers.items()}),)

    def rest_routers(self) -> tuple[APIRouter, ...]:
        return ()

    async def start(self, context: ServiceContext) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to stop."""


async def _not_here(request: object, call: Call) -> object:
    raise Unsupported("this stand-in has no such call")


def rollout_service(player: FakeRollout) -> Scripted:
    async def describe(request: Any, call: Call) -> Any:
        return await player.describe(deadline_s=call.remaining_s())

    handlers = {
        "Describe": describe,
        "Render": lambda request, call: player.render(request, deadline_s=call.remaining_s()),
        "Generate": lambda request, call: player.generate(request, deadline_s=call.remaining_s()),
        "LoadWeights": lambda request, call: player.load_weights(request, deadline_s=call.remaining_s()),
    }
    return Scripted("rollout", rollout_pb2.DESCRIPTOR.services_by_name["Rollout"], handlers)


def student_service(student: FakeStudent) -> Scripted:
    async def step(messages: AsyncIterator[student_pb2.StepMessage], call: Call) -> student_pb2.StepReply:
        return await student.step([message async for message in messages], deadline_s=call.remaining_s())

    handlers = {
        "OpenRun": lambda request, call: student.open_run(request, deadline_s=call.remaining_s()),
        "Step": step,
        "Checkpoint": lambda request, call: student.checkpoint(request, deadline_s=call.remaining_s()),
        "Publish": lambda request, call: student.publish(request, deadline_s=call.remaining_s()),
    }
    return Scripted("student", student_pb2.DESCRIPTOR.services_by_name["Student"], handlers)


def teacher_service(tutor: FakeTeacher) -> Scripted:
    handlers = {
        "Describe": lambda request, call: tutor.describe(request, deadline_s=call.remaining_s()),
        "Grade": lambda request, call: tutor.grade(request, deadline_s=call.remaining_s()),
    }
    return Scripted("teacher", teacher_pb2.DESCRIPTOR.services_by_name["Teacher"], handlers)


async def open_doors(stack: AsyncExitStack, player: FakeRollout, student: FakeStudent, tutor: FakeTeacher) -> dict[str, str]:
    """Service name -> where it listens, until the stack is closed."""
    served = (
        (rollout_service(player), RolloutSettings(**OPEN)),
        (student_service(student), StudentSettings(**OPEN)),
        (teacher_service(tutor), TeacherSettings(**OPEN)),
    )
    houses: list[RunningService] = [await stack.enter_async_context(running(service, how)) for service, how in served]
    return {house.service.name: f"127.0.0.1:{house.grpc_port}" for house in houses}
