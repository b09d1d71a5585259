"""What a learner needs of the world, as Protocols: real clients, services in this process and scripted fakes all fit.

Ports speak messages of the protocol, because the learner keeps their bytes. One call is one attempt or retries inside its own
deadline; a port raises `PreceptorError` and nothing else. The queue's port is `preceptor.queue.Queue`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from preceptor.queue import Queue
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2


class RolloutPort(Protocol):
    """A rollout service."""

    async def describe(self, *, deadline_s: float) -> rollout_pb2.RolloutDescribeReply:
        """Who generates there."""
        ...

    async def render(self, request: rollout_pb2.RenderRequest, *, deadline_s: float) -> rollout_pb2.RenderReply:
        """Ids of conversations."""
        ...

    async def pieces(self, request: rollout_pb2.PiecesRequest, *, deadline_s: float) -> rollout_pb2.PiecesReply:
        """What each id stands for."""
        ...

    def generate(self, request: rollout_pb2.GenerateRequest, *, deadline_s: float) -> AsyncGenerator[rollout_pb2.GenerateReply]:
        """Rollouts as they close. Never repeated by the port: only the learner knows which it has."""
        ...

    async def load_weights(self, request: rollout_pb2.LoadWeightsRequest, *, deadline_s: float) -> rollout_pb2.LoadWeightsReply:
        """Returns when the engine runs that version."""
        ...


class StudentPort(Protocol):
    """A student service."""

    async def open_run(self, request: student_pb2.OpenRunRequest, *, deadline_s: float) -> student_pb2.StudentStatus:
        """Takes the run over under a new epoch."""
        ...

    async def step(self, messages: Sequence[student_pb2.StepMessage], *, deadline_s: float) -> student_pb2.StepReply:
        """One optimiser step: a header and its micro-batches. Never repeated by the port."""
        ...

    async def checkpoint(self, request: student_pb2.CheckpointRequest, *, deadline_s: float) -> student_pb2.CheckpointReply:
        """Makes the applied step durable."""
        ...

    async def publish(self, request: student_pb2.PublishRequest, *, deadline_s: float) -> student_pb2.PublishReply:
        """Writes the weights as a version and names it."""
        ...


class TeacherPort(Protocol):
    """A teacher service, as far as a learner asks it; scores come through the queue, verdicts as `grade_through` says."""

    async def describe(self, request: teacher_pb2.DescribeRequest, *, deadline_s: float) -> teacher_pb2.DescribeReply:
        """What it can score, and with which tokenizer."""
        ...

    async def load_version(self, request: teacher_pb2.LoadVersionRequest, *, deadline_s: float) -> teacher_pb2.LoadVersionReply:
        """Returns when that copy of the student can be scored under."""
        ...

    async def drop_version(self, request: teacher_pb2.DropVersionRequest, *, deadline_s: float) -> teacher_pb2.DropVersionReply:
        """Lets go of a copy."""
        ...

    async def grade(self, request: teacher_pb2.GradeRequest, *, deadline_s: float) -> teacher_pb2.GradeReply:
        """Verdicts on texts; each item succeeds or fails alone."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything around a learner. `writers` are rollout services that serve a teacher's weights, by the teacher's model name."""

    rollout: RolloutPort
    student: StudentPort
    teacher: TeacherPort
    queue: Queue
    writers: dict[str, RolloutPort] = field(default_factory=dict[str, RolloutPort])
