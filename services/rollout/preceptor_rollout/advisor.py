"""The door's side of a policy with a teacher in its loop: questions of the engine go to the teacher, replies go back.

The teacher's address is the operator's, its name the request's. The first reply of a unit names the weights that gave it; the
rest of the unit is asked of the same weights, so that no rollout is guided by two of them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Protocol

from preceptor import wire
from preceptor.client.channel import Target
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.config.settings import RolloutSettings
from preceptor.error_details import error_of
from preceptor.errors import Corrupt, PreceptorError, Unavailable, Unsupported, VersionGone
from preceptor.recipes.behaviour import GUIDED_ENGINES, Behaviour, behaviour_from_json
from preceptor.types import ModelInfo, ModelRef
from preceptor_proto.v1 import rollout_pb2, teacher_pb2
from preceptor_rollout.calls import ANSWERED, GUIDED, LEFT, TurnKind, read_turn
from preceptor_rollout.units import Unit
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.engine_host.frames import join_name
from preceptor_serving.frame.call import Call

LEAVE_S = 10.0
ITEMS_PER_CALL = 1024  # what one ScoreRequest may hold


class TeacherPort(Protocol):
    """What a rollout service needs of a teacher."""

    async def score(self, request: teacher_pb2.ScoreRequest, *, deadline_s: float) -> teacher_pb2.ScoreReply:
        """One result for each item, in order."""
        ...


def teacher_link(settings: RolloutSettings, address: str) -> TeacherDoors:
    """A `TeacherPort` to the teacher service of the settings: attempts, waits and deadlines are the light client's."""
    key = settings.teacher_api_key.get_secret_value() if settings.teacher_api_key else None
    return TeacherDoors(Target(address, key, max_message_bytes=settings.max_message_bytes))


def teacher_in_loop(request: rollout_pb2.GenerateRequest) -> Behaviour | None:
    """The policy of a request that asks a teacher; None: the student draws alone."""
    if not request.policy_json:
        return None
    behaviour = behaviour_from_json(request.policy_json)
    return behaviour if behaviour.spec.asks_teacher else None


class Advisor:
    """Runs units whose policy has a teacher in its loop."""

    def __init__(self, engine: EngineChannel, teacher: TeacherPort | None, student: ModelInfo, *, guided: bool) -> None:
        self._engine, self._teacher, self._student, self._guided = engine, teacher, student, guided

    def check(self, request: rollout_pb2.GenerateRequest) -> None:
        """Returns when there is somebody to ask, and something to draw."""
        behaviour = teacher_in_loop(request)
        if behaviour is None:
            return
        if not self._guided:
            raise Unsupported(
                f"policy {behaviour.spec.name} asks a teacher, for whom the {self._student.engine} engine cannot wait",
                field="policy_json.policy.op",
                value=behaviour.spec.name,
                limit="student",
                hint=f"these engines can: {', '.join(GUIDED_ENGINES)}; start the service with --engine",
            )
        if self._teacher is None:
            raise Unsupported(
                f"policy {behaviour.spec.name} asks a teacher; this service knows none",
                field="policy_json.policy.op",
                value=behaviour.spec.name,
                limit="student",
                hint="start the service with --teacher HOST:PORT",
            )
        if request.sampling.HasField("temperature") and request.sampling.temperature == 0:
            raise Unsupported(
                f"policy {behaviour.spec.name} draws; at temperature 0 there is nothing to draw",
                field="sampling.temperature", value=0, limit="> 0", hint="take a small temperature",
            )  # fmt: skip

    def asking(self, request: rollout_pb2.GenerateRequest, job: str) -> Asking | None:
        """Who is asked while these rollouts are drawn, in all their turns; None: the student draws alone."""
        behaviour = teacher_in_loop(request)
        if behaviour is None:
            return None
        return Asking(self._teacher, behaviour.teacher, job, self._student.tokenizer_sha256)

    async def chunks(self, unit: Unit, asking: Asking, call: Call) -> AsyncGenerator[bytes]:
        """Lists of chunks, as `GENERATE` gives them."""
        name = uuid.uuid4().hex
        method, payload = GUIDED, unit.to_bytes()
        ended = False
        try:
            while not ended:
                question: bytes | None = None
                stream = self._engine.stream(method, join_name(name, payload), timeout_s=call.remaining_s())
                async with aclosing(stream) as turns:
                    async for turn in turns:
                        kind, body = read_turn(turn)
                        if kind is TurnKind.QUESTION:
                            question = body
                        else:
                            yield body
                ended = question is None
                if question is not None:
                    reply = await asking.ask(teacher_pb2.ScoreRequest.FromString(question), call.remaining_s())
                    method, payload = ANSWERED, reply.SerializeToString()
        finally:
            if not ended:
                await asyncio.shield(self._leave(name))

    async def _leave(self, name: str) -> None:
        """The engine gives back what the unit holds; one that died holds nothing."""
        with suppress(PreceptorError):
            await self._engine.call(LEFT, join_name(name, b""), timeout_s=LEAVE_S)


class Asking:
    """The questions of one unit, of which the first reply names the weights that are asked from then on."""

    def __init__(self, teacher: TeacherPort | None, name: str, job: str, tokenizer_sha256: bytes) -> None:
        assert teacher is not None, "a request without somebody to ask was refused"
        self._teacher, self._name, self._job, self._tokenizer_sha256 = teacher, name, job, tokenizer_sha256
        self._version: ModelRef | None = None

    async def ask(self, question: teacher_pb2.ScoreRequest, deadline_s: float) -> teacher_pb2.ScoreReply:
        """The reply, every result of it a result."""
        whole = teacher_pb2.ScoreReply()
        for start in range(0, len(question.items), ITEMS_PER_CALL):
            items = question.items[start : start + ITEMS_PER_CALL]
            reply = await self._some(items, deadline_s)
            self._pin(reply)
            whole.results.extend(reply.results)
        found, asked = len(whole.results), len(question.items)
        if found != asked:
            raise Corrupt("another number of results than items", field="results", value=found, limit=asked)
        return whole

    async def _some(self, items: list[teacher_pb2.ScoreItem], deadline_s: float) -> teacher_pb2.ScoreReply:
        request = teacher_pb2.ScoreRequest(
            teacher=wire.choice_to_proto(self._name, self._version),
            items=items,
            tokenizer_sha256=self._tokenizer_sha256,
            job=self._job,
        )
        try:
            return await self._teacher.score(request, deadline_s=deadline_s)
        except VersionGone as error:
            raise _moved_on() from error

    def _pin(self, reply: teacher_pb2.ScoreReply) -> None:
        for result in reply.results:
            if result.WhichOneof("outcome") == "error":
                error = error_of(result.error)
                raise _moved_on() if isinstance(error, VersionGone) else error
            answered = wire.model_ref_from_proto(result.receipt.model)
            self._version = self._version or answered
            if answered != self._version:
                raise _moved_on()


def _moved_on() -> PreceptorError:
    """Not the `VersionGone` of the student's weights, which loading them again would mend."""
    return Unavailable("the teacher's weights were swapped under the rollout", hint="ask for it again")
