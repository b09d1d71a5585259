"""Ports over any way of calling a service: gRPC to another process, or the service's own handlers in this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc.aio
from google.protobuf.message import Message

from preceptor.client.channel import Connection
from preceptor.rpc_errors import from_rpc
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2

M = TypeVar("M", bound=Message)
ROLLOUT, STUDENT = "preceptor.v1.Rollout", "preceptor.v1.Student"


class Caller(Protocol):
    """One attempt at a call: method name and message in, message out, `PreceptorError` on failure."""

    async def call(self, method: str, request: Message, reply: type[M], *, deadline_s: float) -> M:
        """A call with one reply."""
        ...

    def stream(self, method: str, request: Message, reply: type[M], *, deadline_s: float) -> AsyncGenerator[M]:
        """A call with a stream of replies; closing the generator ends the call."""
        ...

    async def feed(self, method: str, messages: Sequence[Message], reply: type[M], *, deadline_s: float) -> M:
        """A call that takes a stream of messages."""
        ...


@dataclass(frozen=True, slots=True)
class GrpcCaller:
    """Calls of one service over a connection."""

    connection: Connection
    service: str

    async def call(self, method: str, request: Message, reply: type[M], *, deadline_s: float) -> M:
        """See `Caller.call`."""
        unary = self.connection.unary(f"{self.service}/{method}", reply)
        return await self.connection.call(unary, request, deadline_s=deadline_s, idempotent=False)

    async def stream(self, method: str, request: Message, reply: type[M], *, deadline_s: float) -> AsyncGenerator[M]:
        """See `Caller.stream`."""
        streamed = self.connection.streamed(f"{self.service}/{method}", reply)
        async for one in self.connection.stream(streamed, request, deadline_s=deadline_s):
            yield one

    async def feed(self, method: str, messages: Sequence[Message], reply: type[M], *, deadline_s: float) -> M:
        """See `Caller.feed`."""
        fed = self.connection.channel.stream_unary(
            f"/{self.service}/{method}", request_serializer=_serialise, response_deserializer=reply.FromString
        )
        try:
            return await fed(iter(messages), timeout=deadline_s, metadata=self.connection.metadata())
        except grpc.aio.AioRpcError as failure:
            raise from_rpc(failure) from failure


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()


# ---------------------------------------------------------------- ports


@dataclass(frozen=True, slots=True)
class RolloutCalls:
    """A `RolloutPort`."""

    caller: Caller

    async def describe(self, *, deadline_s: float) -> rollout_pb2.RolloutDescribeReply:
        """See `RolloutPort.describe`."""
        request = rollout_pb2.RolloutDescribeRequest()
        return await self.caller.call("Describe", request, rollout_pb2.RolloutDescribeReply, deadline_s=deadline_s)

    async def render(self, request: rollout_pb2.RenderRequest, *, deadline_s: float) -> rollout_pb2.RenderReply:
        """See `RolloutPort.render`."""
        return await self.caller.call("Render", request, rollout_pb2.RenderReply, deadline_s=deadline_s)

    async def pieces(self, request: rollout_pb2.PiecesRequest, *, deadline_s: float) -> rollout_pb2.PiecesReply:
        """See `RolloutPort.pieces`."""
        return await self.caller.call("Pieces", request, rollout_pb2.PiecesReply, deadline_s=deadline_s)

    def generate(self, request: rollout_pb2.GenerateRequest, *, deadline_s: float) -> AsyncGenerator[rollout_pb2.GenerateReply]:
        """See `RolloutPort.generate`."""
        return self.caller.stream("Generate", request, rollout_pb2.GenerateReply, deadline_s=deadline_s)

    async def load_weights(self, request: rollout_pb2.LoadWeightsRequest, *, deadline_s: float) -> rollout_pb2.LoadWeightsReply:
        """See `RolloutPort.load_weights`."""
        return await self.caller.call("LoadWeights", request, rollout_pb2.LoadWeightsReply, deadline_s=deadline_s)


@dataclass(frozen=True, slots=True)
class StudentCalls:
    """A `StudentPort`."""

    caller: Caller

    async def open_run(self, request: student_pb2.OpenRunRequest, *, deadline_s: float) -> student_pb2.StudentStatus:
        """See `StudentPort.open_run`."""
        return await self.caller.call("OpenRun", request, student_pb2.StudentStatus, deadline_s=deadline_s)

    async def step(self, messages: Sequence[student_pb2.StepMessage], *, deadline_s: float) -> student_pb2.StepReply:
        """See `StudentPort.step`."""
        return await self.caller.feed("Step", messages, student_pb2.StepReply, deadline_s=deadline_s)

    async def checkpoint(self, request: student_pb2.CheckpointRequest, *, deadline_s: float) -> student_pb2.CheckpointReply:
        """See `StudentPort.checkpoint`."""
        return await self.caller.call("Checkpoint", request, student_pb2.CheckpointReply, deadline_s=deadline_s)

    async def publish(self, request: student_pb2.PublishRequest, *, deadline_s: float) -> student_pb2.PublishReply:
        """See `StudentPort.publish`."""
        return await self.caller.call("Publish", request, student_pb2.PublishReply, deadline_s=deadline_s)


@dataclass(frozen=True, slots=True)
class TeacherCalls:
    """A `TeacherPort`."""

    caller: Caller

    async def describe(self, request: teacher_pb2.DescribeRequest, *, deadline_s: float) -> teacher_pb2.DescribeReply:
        """See `TeacherPort.describe`."""
        return await self.caller.call("Describe", request, teacher_pb2.DescribeReply, deadline_s=deadline_s)

    async def score(self, request: teacher_pb2.ScoreRequest, *, deadline_s: float) -> teacher_pb2.ScoreReply:
        """What a rollout service in this process asks for its behaviour policies."""
        return await self.caller.call("Score", request, teacher_pb2.ScoreReply, deadline_s=deadline_s)

    async def load_version(self, request: teacher_pb2.LoadVersionRequest, *, deadline_s: float) -> teacher_pb2.LoadVersionReply:
        """See `TeacherPort.load_version`."""
        return await self.caller.call("LoadVersion", request, teacher_pb2.LoadVersionReply, deadline_s=deadline_s)

    async def drop_version(self, request: teacher_pb2.DropVersionRequest, *, deadline_s: float) -> teacher_pb2.DropVersionReply:
        """See `TeacherPort.drop_version`."""
        return await self.caller.call("DropVersion", request, teacher_pb2.DropVersionReply, deadline_s=deadline_s)

    async def grade(self, request: teacher_pb2.GradeRequest, *, deadline_s: float) -> teacher_pb2.GradeReply:
        """See `TeacherPort.grade`."""
        return await self.caller.call("Grade", request, teacher_pb2.GradeReply, deadline_s=deadline_s)
