"""Messages to teacher services at one address or several: each goes to the service that has its teacher."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from preceptor.client.channel import Connection, Target, with_retries
from preceptor.client.routes import Routes, addresses_in
from preceptor.errors import InvalidArgument
from preceptor_proto.v1 import teacher_pb2

M = TypeVar("M", bound=Message)
SERVICE = "preceptor.v1.Teacher"


class TeacherDoors:
    """Made and used inside one event loop. `repeats=False` makes one attempt at each call, for callers that count their own."""

    def __init__(self, target: Target, *, repeats: bool = True) -> None:
        self.target, self._repeats = target, repeats
        self.connections = {one: Connection(replace(target, address=one)) for one in addresses_in(target.address)}
        self._routes = Routes([*self.connections], self._names_at)

    async def describe(
        self, request: teacher_pb2.DescribeRequest, *, deadline_s: float | None = None
    ) -> teacher_pb2.DescribeReply:
        """Of the named teacher; of all teachers everywhere where none is named."""
        if request.teacher:
            return await self._call("Describe", request.teacher, request, teacher_pb2.DescribeReply, deadline_s)
        replies = await asyncio.gather(*(self._described(address, deadline_s) for address in self.connections))
        return teacher_pb2.DescribeReply(teachers=[info for reply in replies for info in reply.teachers])

    async def score(self, request: teacher_pb2.ScoreRequest, *, deadline_s: float | None = None) -> teacher_pb2.ScoreReply:
        """One result for each item, in order."""
        return await self._call("Score", request.teacher.teacher, request, teacher_pb2.ScoreReply, deadline_s)

    async def grade(self, request: teacher_pb2.GradeRequest, *, deadline_s: float | None = None) -> teacher_pb2.GradeReply:
        """One verdict or error for each item, in order."""
        return await self._call("Grade", request.teacher.teacher, request, teacher_pb2.GradeReply, deadline_s)

    async def load_version(
        self, request: teacher_pb2.LoadVersionRequest, *, deadline_s: float | None = None
    ) -> teacher_pb2.LoadVersionReply:
        """Of several services behind one name one loads it; another does when it is first asked under that version."""
        return await self._call("LoadVersion", request.teacher, request, teacher_pb2.LoadVersionReply, deadline_s)

    async def drop_version(
        self, request: teacher_pb2.DropVersionRequest, *, deadline_s: float | None = None
    ) -> teacher_pb2.DropVersionReply:
        """Lets go of it where the name leads; other services behind one name let go of what they used longest ago."""
        return await self._call("DropVersion", request.teacher, request, teacher_pb2.DropVersionReply, deadline_s)

    async def status(self, *, deadline_s: float | None = None) -> teacher_pb2.TeacherStatus:
        """How the one service stands; several have several states."""
        return await self._at(self._only(), "Status", teacher_pb2.StatusRequest(), teacher_pb2.TeacherStatus, deadline_s)

    async def drain(self, request: teacher_pb2.DrainRequest, *, deadline_s: float | None = None) -> teacher_pb2.DrainReply:
        """Takes teachers of the one service out of work or back into it; may be asked again."""
        return await self._at(self._only(), "Drain", request, teacher_pb2.DrainReply, deadline_s)

    def _only(self) -> str:
        if len(self.connections) > 1:
            value, limit = self.target.address, "one address"
            raise InvalidArgument("this is asked of one service alone", field="target", value=value, limit=limit)
        return next(iter(self.connections))

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self.connections.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, method: str, teacher: str, request: Message, reply: type[M], deadline_s: float | None) -> M:
        return await self._at(await self._address_of(teacher, deadline_s), method, request, reply, deadline_s)

    async def _address_of(self, teacher: str, deadline_s: float | None) -> str:
        """Asked for again while a service that may have the teacher does not answer, unless attempts are the caller's."""
        limit_s = self.target.deadline_s if deadline_s is None else deadline_s
        if not self._repeats:
            return await self._routes.address_of(teacher, limit_s)
        return await with_retries(lambda: self._routes.address_of(teacher, limit_s), limit_s)

    async def _at(self, address: str, method: str, request: Any, reply: type[M], deadline_s: float | None) -> M:
        connection = self.connections[address]
        unary = connection.unary(f"{SERVICE}/{method}", reply)
        return await connection.call(unary, request, deadline_s=deadline_s, idempotent=self._repeats)

    async def _described(self, address: str, deadline_s: float | None) -> teacher_pb2.DescribeReply:
        return await self._at(address, "Describe", teacher_pb2.DescribeRequest(), teacher_pb2.DescribeReply, deadline_s)

    async def _names_at(self, address: str, deadline_s: float) -> list[str]:
        """Names and aliases of all teachers there."""
        reply = await self._described(address, deadline_s)
        return [name for info in reply.teachers for name in (info.model.name, *info.aliases)]
