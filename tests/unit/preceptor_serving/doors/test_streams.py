"""Streams on both doors: admitted until their last message, ended by deadline, error or a caller that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import grpc
import httpx
import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from preceptor import wire
from preceptor.config import TeacherSettings
from preceptor.errors import Conflict, DeadlineExceeded, InvalidArgument, TooLarge
from preceptor.rpc_errors import from_rpc
from preceptor.types import Sequence
from preceptor_proto.v1 import rollout_pb2, rollout_pb2_grpc, student_pb2, student_pb2_grpc
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_serving.frame.call import TIMEOUT_HEADER, Call
from preceptor_serving.run import RunningService, running
from preceptor_serving.service import GrpcService, Rpc, ServiceContext

MAX_BYTES = 1 << 20


class StreamService:
    """Every shape of call that the protocol has."""

    name = "streams"

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def grpc_services(self) -> tuple[GrpcService, ...]:
        rollout = rollout_pb2.DESCRIPTOR.services_by_name["Rollout"]
        student = student_pb2.DESCRIPTOR.services_by_name["Student"]
        generating = {method.name: Rpc(self.unused, Scope.GENERATE) for method in rollout.methods}
        training = {method.name: Rpc(self.unused, Scope.TRAIN) for method in student.methods}
        return (
            GrpcService(rollout, generating | {"Generate": Rpc(self.generate, Scope.GENERATE)}),
            GrpcService(student, training | {"Step": Rpc(self.step, Scope.TRAIN)}),
        )

    def rest_routers(self) -> tuple[APIRouter, ...]:
        router = door_router()

        @router.get("/count/{last}")
        @needs(Scope.GENERATE)
        async def count(last: int, call: CurrentCall) -> StreamingResponse:
            return StreamingResponse(self.numbers(last))

        @router.get("/flood")
        @needs(Scope.GENERATE)
        async def flood(call: CurrentCall) -> StreamingResponse:
            return StreamingResponse(self.endless())

        @router.post("/wait")
        @needs(Scope.GENERATE)
        async def wait(body: dict[str, int], call: CurrentCall) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.closed.set()

        return (router,)

    async def start(self, context: ServiceContext) -> None: ...

    async def stop(self) -> None: ...

    async def unused(self, request: object, call: Call) -> object:
        raise AssertionError("no test calls this")

    async def generate(self, request: rollout_pb2.GenerateRequest, call: Call) -> AsyncIterator[rollout_pb2.GenerateReply]:
        """As many empty replies as there are prompts; a seed of 1 fails in the middle, 2 waits for ever."""
        try:
            for _ in request.prompts:
                yield rollout_pb2.GenerateReply()
            if request.seed == 1:
                raise Conflict("in the middle", field="seed")
            if request.seed == 2:
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def step(self, requests: AsyncIterator[student_pb2.StepMessage], call: Call) -> student_pb2.StepReply:
        return student_pb2.StepReply(applied_step=len([message async for message in requests]))

    async def endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 18)
        finally:
            self.closed.set()

    async def numbers(self, last: int) -> AsyncIterator[bytes]:
        for number in range(last):
            yield b"%d " % number
        if not last:
            await asyncio.Event().wait()


@pytest.fixture
async def service() -> AsyncGenerator[RunningService]:
    settings = TeacherSettings(grpc_port=0, rest_port=0, max_message_bytes=MAX_BYTES, drain_grace_s=1)
    async with running(StreamService(), settings) as served:
        yield served


@pytest.fixture
async def door(service: RunningService) -> AsyncGenerator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.grpc_port}") as opened:
        yield opened


def generate(door: grpc.aio.Channel, prompts: int, seed: int = 0, timeout_s: float = 20) -> grpc.aio.UnaryStreamCall:
    request = rollout_pb2.GenerateRequest(run="r", seed=seed, sampling=rollout_pb2.Sampling(max_new_tokens=1))
    for number in range(prompts):
        request.prompts.add(prompt=number, samples=1).context.u32le = b"\1\0\0\0"
    return rollout_pb2_grpc.RolloutStub(door).Generate(request, timeout=timeout_s)


def code_count(service: RunningService, method: str, code: str) -> float:
    return service.meters.value("preceptor_requests_total", door="grpc", method=method, code=code)


async def test_a_stream_of_replies_ends_well(service: RunningService, door: grpc.aio.Channel) -> None:
    assert len([reply async for reply in generate(door, 3)]) == 3
    assert code_count(service, "Rollout.Generate", "OK") == 1


async def test_an_error_in_the_middle_follows_what_was_sent(service: RunningService, door: grpc.aio.Channel) -> None:
    call = generate(door, 2, seed=1)
    received = [await call.read(), await call.read()]
    assert all(isinstance(reply, rollout_pb2.GenerateReply) for reply in received)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    assert isinstance(from_rpc(failure.value), Conflict)
    assert code_count(service, "Rollout.Generate", "CONFLICT") == 1


async def test_a_stream_ends_at_its_deadline_and_the_handler_with_it(service: RunningService, door: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        [_ async for _ in generate(door, 1, seed=2, timeout_s=0.2)]
    assert isinstance(from_rpc(failure.value), DeadlineExceeded)
    await asyncio.wait_for(service.service.closed.wait(), 10)


async def test_a_caller_that_leaves_ends_the_handler(service: RunningService, door: grpc.aio.Channel) -> None:
    call = generate(door, 1, seed=2)
    await call.read()
    call.cancel()
    await asyncio.wait_for(service.service.closed.wait(), 10)
    await asyncio.wait_for(service.frame.idle(), 10)
    assert code_count(service, "Rollout.Generate", "CANCELLED") == 1


async def test_a_peer_that_stops_reading_keeps_its_place_until_the_deadline_only(service: RunningService) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", service.rest_port, limit=1)
    writer.write(f"GET /flood HTTP/1.1\r\nHost: x\r\n{TIMEOUT_HEADER}: 0.3\r\n\r\n".encode())
    await asyncio.wait_for(service.service.closed.wait(), 10)
    await asyncio.wait_for(service.frame.idle(), 10)
    writer.close()


async def test_every_message_of_a_request_stream_is_checked(service: RunningService, door: grpc.aio.Channel) -> None:
    async def messages(last: student_pb2.StepMessage) -> AsyncIterator[student_pb2.StepMessage]:
        yield good
        yield last

    good = micro_batch(10)
    stub = student_pb2_grpc.StudentStub(door)
    assert (await stub.Step(messages(good))).applied_step == 2
    for wrong, error in ((student_pb2.StepMessage(), InvalidArgument), (micro_batch(MAX_BYTES), TooLarge)):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.Step(messages(wrong))
        assert isinstance(from_rpc(failure.value), error)


def micro_batch(padding_bytes: int) -> student_pb2.StepMessage:
    item = student_pb2.TrainItem(sequence=wire.sequence_to_proto(Sequence.of([1], [2])), source="x" * padding_bytes)
    return student_pb2.StepMessage(micro_batch=student_pb2.MicroBatch(items=[item]))


async def test_a_rest_stream_stays_admitted_until_its_last_chunk(service: RunningService) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.rest_port}", verify=False) as client:
        reply = await client.get("/count/3")
        assert reply.text == "0 1 2 "
        assert service.meters.value("preceptor_sent_bytes_total", door="rest") == len(reply.text)
        async with client.stream("GET", "/count/0", headers={"X-Request-Timeout": "0.3"}) as endless:
            assert service.frame.in_flight == 1
            with pytest.raises(httpx.RemoteProtocolError):  # cut off, so that nobody takes it for complete
                await endless.aread()
    await asyncio.wait_for(service.frame.idle(), 10)
    assert (
        service.meters.value("preceptor_requests_total", door="rest", method="GET /count/{last}", code="DEADLINE_EXCEEDED") == 1
    )
