"""Which way a learner's questions to graders go: to the service that has them, or into the queue."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from preceptor.config.settings import ClientSettings
from preceptor.learner.ports import TeacherPort
from preceptor.queue import GradeQueue, Queue
from preceptor_proto.v1 import teacher_pb2


@dataclass(frozen=True, slots=True)
class GradesFromQueue:
    """A `TeacherPort` whose verdicts come through the queue; everything else is asked of the service."""

    service: TeacherPort
    grades: GradeQueue

    async def describe(self, request: teacher_pb2.DescribeRequest, *, deadline_s: float) -> teacher_pb2.DescribeReply:
        """See `TeacherPort.describe`."""
        return await self.service.describe(request, deadline_s=deadline_s)

    async def load_version(self, request: teacher_pb2.LoadVersionRequest, *, deadline_s: float) -> teacher_pb2.LoadVersionReply:
        """See `TeacherPort.load_version`."""
        return await self.service.load_version(request, deadline_s=deadline_s)

    async def drop_version(self, request: teacher_pb2.DropVersionRequest, *, deadline_s: float) -> teacher_pb2.DropVersionReply:
        """See `TeacherPort.drop_version`."""
        return await self.service.drop_version(request, deadline_s=deadline_s)

    async def grade(self, request: teacher_pb2.GradeRequest, *, deadline_s: float) -> teacher_pb2.GradeReply:
        """See `TeacherPort.grade`."""
        return await self.grades.grade(request, deadline_s=deadline_s)


@asynccontextmanager
async def grading_as(settings: ClientSettings, service: TeacherPort, queue: Queue) -> AsyncGenerator[TeacherPort]:
    """The port that `grade_through` asks for."""
    if settings.grade_through == "service":
        yield service
        return
    grades = GradeQueue(queue, settings.tenant, deadline_s=settings.deadline_s)
    try:
        yield GradesFromQueue(service, grades)
    finally:
        await grades.close()
