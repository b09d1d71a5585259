"""Generated messages against every call of every service, over loopback."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from preceptor.rpc_errors import from_rpc
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2
from tests.fuzz.doors import Doors
from tests.fuzz.messages import mangled, mutated, random_message
from tests.fuzz.seeds import RUN, seeds, step_messages
from tests.fuzz.verdicts import Answer, Finding, inner_errors

HANG_S = 30.0
LEFT_OUT = ("Drain",)  # an operator's order to end the very service that the other cases are sent to; the limits' tests have it
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}.{method.name}": method
    for module in (teacher_pb2, rollout_pb2, student_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name not in LEFT_OUT
}


class GrpcFuzz:
    """Cases by number. The same seed and number always send the same bytes, but for the run's epoch and step."""

    door = "grpc"

    def __init__(self, doors: Doors, seed: int) -> None:
        self._seed, self._seeds = seed, seeds()
        self._channels = {name: grpc.aio.insecure_channel(where) for name, where in doors.grpc.items()}
        self.names = list(METHODS)
        self.codes: Counter[str] = Counter()

    async def close(self) -> None:
        print(f"grpc answers: {dict(self.codes.most_common())}")  # most cases must come far enough to be refused for one field
        for channel in self._channels.values():
            await channel.close()

    async def case(self, number: int) -> tuple[str, list[Finding]]:
        """(what was asked, what may not be)."""
        rng = random.Random(f"{self._seed}/{number}")
        name = self.names[number % len(self.names)]
        raw = self._requests(name, rng, await self._student_seed(name))
        answers = await self._ask(METHODS[name], raw)
        self.codes.update(answer.code for answer in answers)
        complaints = [answer.complaint for answer in answers if answer.complaint]
        text = " ".join(part.hex() for part in raw)
        return name, [Finding(self.door, name, number, complaint, text) for complaint in complaints]

    def _requests(self, name: str, rng: random.Random, good: Sequence[Message]) -> list[bytes]:
        """Half of the cases are nearly valid, a quarter is anything, a quarter is bytes."""
        how = rng.random()
        if how < 0.5:
            kept = rng.randrange(len(good))
            return [(mutated(one, rng) if place == kept else one).SerializeToString() for place, one in enumerate(good)]
        if how < 0.75:
            kind = GetMessageClass(METHODS[name].input_type)
            return [random_message(kind, rng).SerializeToString() for _ in range(rng.choice((1, 1, 2)))]
        return [mangled(one.SerializeToString(), rng) for one in good]

    async def _student_seed(self, name: str) -> Sequence[Message]:
        """A step is only reached by a message that has the run's epoch and its next step."""
        if name not in ("Student.Step", "Student.Checkpoint", "Student.Publish"):
            return self._seeds.get(name) or [GetMessageClass(METHODS[name].input_type)()]
        status = await self._status() or student_pb2.StudentStatus(epoch=1)
        if name == "Student.Step":
            return step_messages(max(1, status.epoch), status.applied_step + 1)
        kind = type(self._seeds[name][0])
        return [kind(run=RUN, epoch=max(1, status.epoch))]

    async def _status(self) -> student_pb2.StudentStatus | None:
        """Of the run, which is opened where it is not open."""
        for method in ("Student.Status", "Student.OpenRun"):
            raw = self._seeds[method][0].SerializeToString()
            call = self._channels["student"].unary_unary(f"/preceptor.v1.{method.replace('.', '/')}")
            try:
                status = student_pb2.StudentStatus.FromString(await call(raw, timeout=HANG_S))
            except grpc.aio.AioRpcError:
                continue
            if status.epoch:
                return status
        return None

    async def _ask(self, method: MethodDescriptor, raw: list[bytes]) -> list[Answer]:
        """One answer, and those inside its reply."""
        try:
            async with asyncio.timeout(HANG_S):
                replies = await self._replies(method, raw)
        except TimeoutError:
            return [Answer("HANG", message=f"no answer for {HANG_S:g} s")]
        except grpc.aio.AioRpcError as failure:
            error = from_rpc(failure)
            return [Answer(error.code.value, str(error.field), error.message)]
        kind = GetMessageClass(method.output_type)
        try:
            parsed = [kind.FromString(reply) for reply in replies]
        except DecodeError:
            return [Answer("CRASH", message="the reply does not parse")]
        return [Answer("OK"), *(error for reply in parsed for error in inner_errors(reply))]

    async def _replies(self, method: MethodDescriptor, raw: list[bytes]) -> list[bytes]:
        service = method.containing_service
        channel, path = self._channels[service.name.lower()], f"/{service.full_name}/{method.name}"
        if method.client_streaming:
            return [await channel.stream_unary(path)(_each(raw))]
        if method.server_streaming:
            return [reply async for reply in channel.unary_stream(path)(raw[0])]
        return [await channel.unary_unary(path)(raw[0])]


async def _each(raw: list[bytes]) -> AsyncIterator[bytes]:
    for part in raw:
        yield part
