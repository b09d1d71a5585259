"""A learner's door to teachers at several addresses: every call of its port, each to the service that has the teacher."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from preceptor.client.channel import Target
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.config import TeacherSettings
from preceptor.errors import NotFound, PreceptorError
from preceptor.learner.ports import TeacherPort
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import running
from preceptor_teacher.service import TeacherService
from tests.unit.preceptor_teacher.test_service import spec as fake_spec

MODEL = common_pb2.ModelRef(name="student", run="run", step=3)


def in_process(spec: Any, context: Any) -> InlineEngine:
    return InlineEngine(lambda: FakeEngine(FakeOptions(**spec.options)))


@asynccontextmanager
async def two_services() -> AsyncGenerator[TeacherDoors]:
    async with AsyncExitStack() as stack:
        settings = TeacherSettings(grpc_port=0, rest_port=0)
        services = [running(TeacherService((fake_spec(name),), in_process), settings) for name in ("a", "b")]
        houses = [await stack.enter_async_context(service) for service in services]
        addresses = ",".join(f"127.0.0.1:{house.grpc_port}" for house in houses)
        yield await stack.enter_async_context(TeacherDoors(Target(addresses), repeats=False))


async def test_versions_are_asked_of_the_service_that_has_the_teacher() -> None:
    async with two_services() as doors:
        for name in ("a", "b"):
            await doors.drop_version(teacher_pb2.DropVersionRequest(teacher=name, model=MODEL), deadline_s=10)
            with pytest.raises(PreceptorError) as refused:
                await doors.load_version(teacher_pb2.LoadVersionRequest(teacher=name, model=MODEL), deadline_s=10)
            assert "no teacher" not in refused.value.message
        with pytest.raises(NotFound, match="'c'"):
            await doors.load_version(teacher_pb2.LoadVersionRequest(teacher="c", model=MODEL), deadline_s=10)


@pytest.mark.parametrize("name", [name for name in vars(TeacherPort) if not name.startswith("_")])
def test_a_learner_finds_every_call_of_its_port(name: str) -> None:
    assert callable(getattr(TeacherDoors, name))
