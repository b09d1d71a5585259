"""A teacher service with a score cache over a counting fake engine, and an engine that keeps to the grid."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from preceptor.client import AsyncTeacherClient, ScoreItem, ScoreOptions
from preceptor.client.channel import Target
from preceptor.config import TeacherSettings
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService

TEACHER = "fake"
NO_OPTIONS = ScoreOptions()


def inline(spec: EngineSpec, context) -> InlineEngine:
    return InlineEngine(lambda: FakeEngine(FakeOptions(**spec.options)))


@asynccontextmanager
async def house(place=inline, queue=None, options=None, **settings) -> AsyncGenerator[RunningService]:
    spec = TeacherSpec(EngineSpec(TEACHER, "fake", {"name": TEACHER, **(options or {})}))
    service = TeacherService([spec], place, queue=queue)
    async with running(service, TeacherSettings(grpc_port=0, rest_port=0, **settings)) as one:
        yield one


async def score(at: RunningService, *items: ScoreItem, api_key=None, options=NO_OPTIONS):
    async with AsyncTeacherClient(Target(f"127.0.0.1:{at.grpc_port}", api_key=api_key)) as client:
        return await client.score(TEACHER, items, options, deadline_s=20.0)


def computed_items(at: RunningService) -> int:
    """Items that the engine has seen."""
    return sum(len(call) for call in at.service.find(TEACHER).pool.channel.engine.calls)
