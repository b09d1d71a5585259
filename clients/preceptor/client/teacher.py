"""Clients of the teacher: typed sequences in, typed scores out.

async with AsyncTeacherClient("127.0.0.1:50051") as teacher:
    results = await teacher.score("tiny", [ScoreItem(Sequence.of(prompt, response), Want(sampled=True, topk=8))])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from preceptor import wire
from preceptor.client.channel import Connection, Target
from preceptor.client.grading import VERBAL, Graded, GradeOptions, grade_request, read_verdicts
from preceptor.client.sync import SyncLoop
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.error_details import error_of
from preceptor.errors import Corrupt, PreceptorError
from preceptor.types import GradeItem, ModelInfo, ModelRef, Scored, ScoreItem, TeacherStatus
from preceptor_proto.v1 import teacher_pb2

Result = Scored | PreceptorError
"""What became of one item: an error here is that item's alone."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What holds for a whole request. The digests are the student's: a teacher that differs refuses (`WrongPair`)."""

    version: ModelRef | None = None  # None: the newest
    tokenizer_sha256: bytes = b""
    template_sha256: bytes = b""
    job: str = ""
    band: int = 0


NO_OPTIONS = ScoreOptions()


@dataclass(frozen=True, slots=True)
class Drained:
    """Which teachers of a service take no new work, and what the named ones still have."""

    teachers: tuple[str, ...]
    tasks: int
    leases: int


class AsyncTeacherClient:
    """Made and used inside one event loop. `target` is an address, or a `Target` with key and deadline.

    Of several addresses (`A:50051,B:50051`), each with teachers of its own, a call goes to the one that has its teacher.
    """

    def __init__(self, target: str | Target) -> None:
        self._doors = TeacherDoors(Target(target) if isinstance(target, str) else target)

    @property
    def connection(self) -> Connection:
        """The connection to the service; of several, the first one's."""
        return next(iter(self._doors.connections.values()))

    async def describe(self, teacher: str = "", *, deadline_s: float | None = None) -> tuple[ModelInfo, ...]:
        """Versions of one teacher, newest first; of all teachers where none is named."""
        reply = await self._doors.describe(teacher_pb2.DescribeRequest(teacher=teacher), deadline_s=deadline_s)
        return tuple(wire.model_info_from_proto(info) for info in reply.teachers)

    async def score(
        self, teacher: str, items: Iterable[ScoreItem], options: ScoreOptions = NO_OPTIONS, *, deadline_s: float | None = None
    ) -> list[Result]:
        """One result for each item, in order. What is wrong with the whole request is raised."""
        listed = list(items)
        reply = await self._doors.score(score_request(teacher, listed, options), deadline_s=deadline_s)
        return read_reply(reply, listed)

    async def grade(
        self, teacher: str, items: Iterable[GradeItem], options: GradeOptions = VERBAL, *, deadline_s: float | None = None
    ) -> list[Graded]:
        """One verdict for each item, in order, of a teacher that judges text. What is wrong with the whole request is raised."""
        request = grade_request(teacher, list(items), options)
        reply = await self._doors.grade(request, deadline_s=deadline_s)
        return read_verdicts(reply, len(request.items))

    async def status(self, *, deadline_s: float | None = None) -> TeacherStatus:
        """How the service stands: engines, queues, what is wrong. Of several addresses each wants a client of its own."""
        return wire.teacher_status_from_proto(await self._doors.status(deadline_s=deadline_s))

    async def drain(
        self, teacher: str = "", *, undo: bool = False, stop: bool = False, deadline_s: float | None = None
    ) -> Drained:
        """Takes a teacher, or all of the one service, out of work; `undo` takes it back, `stop` ends the service in order."""
        request = teacher_pb2.DrainRequest(teacher=teacher, undo=undo, stop=stop)
        reply = await self._doors.drain(request, deadline_s=deadline_s)
        return Drained(tuple(reply.draining), reply.tasks, reply.leases)

    async def close(self) -> None:
        await self._doors.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class TeacherClient:
    """The same for code without an event loop."""

    def __init__(self, target: str | Target) -> None:
        self._loop = SyncLoop("AsyncTeacherClient")
        self._client = self._loop.run(lambda: _made(target))

    def describe(self, teacher: str = "", *, deadline_s: float | None = None) -> tuple[ModelInfo, ...]:
        """As `AsyncTeacherClient.describe`."""
        return self._loop.run(lambda: self._client.describe(teacher, deadline_s=deadline_s))

    def score(
        self, teacher: str, items: Iterable[ScoreItem], options: ScoreOptions = NO_OPTIONS, *, deadline_s: float | None = None
    ) -> list[Result]:
        """As `AsyncTeacherClient.score`."""
        return self._loop.run(lambda: self._client.score(teacher, items, options, deadline_s=deadline_s))

    def grade(
        self, teacher: str, items: Iterable[GradeItem], options: GradeOptions = VERBAL, *, deadline_s: float | None = None
    ) -> list[Graded]:
        """As `AsyncTeacherClient.grade`."""
        return self._loop.run(lambda: self._client.grade(teacher, items, options, deadline_s=deadline_s))

    def status(self, *, deadline_s: float | None = None) -> TeacherStatus:
        """As `AsyncTeacherClient.status`."""
        return self._loop.run(lambda: self._client.status(deadline_s=deadline_s))

    def close(self) -> None:
        """Closes the channel; asking again does nothing."""
        if not self._loop.closed:
            self._loop.run(self._client.close)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _made(target: str | Target) -> AsyncTeacherClient:
    """Inside the loop that it will live on."""
    return AsyncTeacherClient(target)


def score_request(teacher: str, items: Sequence[ScoreItem], options: ScoreOptions) -> teacher_pb2.ScoreRequest:
    """The message of one request."""
    request = teacher_pb2.ScoreRequest(
        teacher=wire.choice_to_proto(teacher, options.version),
        tokenizer_sha256=options.tokenizer_sha256,
        template_sha256=options.template_sha256,
        job=options.job,
        band=options.band,
    )
    for item in items:
        request.items.add(sequence=wire.sequence_to_proto(item.sequence), want=wire.want_to_proto(item.want))
    return request


def read_reply(reply: teacher_pb2.ScoreReply, items: Sequence[ScoreItem]) -> list[Result]:
    """Typed results; candidate values come without their offsets, which the request has."""
    if len(reply.results) != len(items):
        raise Corrupt("another number of results than items", field="results", value=len(reply.results), limit=len(items))
    return [_result(result, item, f"results[{i}]") for i, (result, item) in enumerate(zip(reply.results, items, strict=True))]


def _result(result: teacher_pb2.ScoreResult, item: ScoreItem, field: str) -> Result:
    if result.WhichOneof("outcome") == "error":
        return error_of(result.error)
    offsets: Any = None if item.want.candidates is None else item.want.candidates.offsets
    return Scored(wire.rows_from_proto(result.rows, offsets, field=field), wire.receipt_from_proto(result.receipt))
