"""The student service through its doors: gRPC with streamed steps, REST, bounds, and an engine that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from preceptor.config import StudentSettings
from preceptor.errors import ConfigurationError, Conflict, EngineFailed, Fenced, InvalidArgument, NotFound, TooLarge
from preceptor.rpc_errors import from_rpc
from preceptor_proto.v1 import student_pb2, student_pb2_grpc
from preceptor_serving.engine_host.placement import in_child_process, in_this_process
from preceptor_serving.run import RunningService, running
from preceptor_student.service import StudentService, engine_spec
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches

Stub = student_pb2_grpc.StudentStub
COMPILED = stepping.recipe()


@asynccontextmanager
async def student(
    root: Path, place=in_this_process, **changes
) -> AsyncGenerator[tuple[RunningService, student_pb2_grpc.StudentStub]]:
    settings = StudentSettings(
        grpc_port=0, rest_port=0, model=f"tiny-student={stepping.TINY / 'student'}", runs_root=str(root), **changes
    )
    async with (
        running(StudentService(place), settings) as house,
        grpc.aio.insecure_channel(f"127.0.0.1:{house.grpc_port}") as channel,
    ):
        yield house, student_pb2_grpc.StudentStub(channel)


async def told(call) -> Any:
    """The reply, or the error as the SDK would raise it."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from None


async def messages(head: student_pb2.StepHeader, batches: list[bytes]) -> AsyncIterator[student_pb2.StepMessage]:
    yield student_pb2.StepMessage(header=head)
    for raw in batches:
        yield student_pb2.StepMessage(micro_batch=student_pb2.MicroBatch.FromString(raw))


def open_request(run: str = "r") -> student_pb2.OpenRunRequest:
    return student_pb2.OpenRunRequest(run=run, config_json=COMPILED.config_json)


async def take_step(stub, epoch: int, step: int, seed: int) -> student_pb2.StepReply:
    batches = made_batches(seed)
    return await told(stub.Step(messages(stepping.header(COMPILED, batches, epoch, step), batches), timeout=60))


async def test_a_run_from_opening_to_publishing(tmp_path):
    async with student(tmp_path) as (house, stub):
        opened = await told(stub.OpenRun(open_request()))
        assert (opened.epoch, opened.applied_step, opened.state) == (1, 0, 2)
        first = await take_step(stub, 1, 1, seed=1)
        again = await take_step(stub, 1, 1, seed=1)
        assert (first.repeated_step, again.repeated_step) == (False, True)
        assert dict(first.metrics) == dict(again.metrics)
        with pytest.raises(Conflict):
            await take_step(stub, 1, 1, seed=2)
        durable = await told(stub.Checkpoint(student_pb2.CheckpointRequest(run="r", epoch=1)))
        assert durable.durable_step == 1
        published = await told(stub.Publish(student_pb2.PublishRequest(run="r", epoch=1)))
        assert (published.model.name, published.model.step) == ("tiny-student", 1)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
            status = (await http.get("/v1/runs/r")).json()
            assert (status["applied_step"], status["durable_step"], status["state"]) == (1, 1, "ready")
            assert status["published"]["manifest_sha256"] == published.model.manifest_sha256.hex()
            assert (await http.get("/v1/runs/other")).status_code == 404
            assert (await http.get("/readyz")).status_code == 200
            metrics = (await http.get("/metrics")).text
        assert 'preceptor_train_steps_total{outcome="repeated"} 1.0' in metrics
        assert f'preceptor_train_rows_total{{outcome="valid"}} {float(first.valid_rows)}' in metrics


async def test_of_two_writers_only_the_later_one_trains_and_every_step_counts_once(tmp_path):
    """Both hold connections of their own and send the same steps at the same time."""
    async with student(tmp_path) as (house, stub), grpc.aio.insecure_channel(f"127.0.0.1:{house.grpc_port}") as channel:
        other = student_pb2_grpc.StudentStub(channel)
        older = (await told(stub.OpenRun(open_request()))).epoch
        await take_step(stub, older, 1, seed=1)
        await told(stub.Checkpoint(student_pb2.CheckpointRequest(run="r", epoch=older)))
        newer = (await told(other.OpenRun(open_request()))).epoch
        for step in (2, 3):
            sent = (take_step(stub, older, step, seed=9), take_step(other, newer, step, seed=step))
            refused, applied = await asyncio.gather(*sent, return_exceptions=True)
            assert isinstance(refused, Fenced)
            assert isinstance(applied, student_pb2.StepReply)
            assert not applied.repeated_step
        for call in (
            stub.Checkpoint(student_pb2.CheckpointRequest(run="r", epoch=older)),
            stub.Publish(student_pb2.PublishRequest(run="r", epoch=older)),
        ):
            with pytest.raises(Fenced):
                await told(call)
        both = await told(other.Publish(student_pb2.PublishRequest(run="r", epoch=newer)))
    async with student(tmp_path / "alone") as (_, stub):
        assert (await told(stub.OpenRun(open_request()))).epoch == 1
        for step in (1, 2, 3):
            await take_step(stub, 1, step, seed=step)
        alone = await told(stub.Publish(student_pb2.PublishRequest(run="r", epoch=1)))
    assert both.model.manifest_sha256 == alone.model.manifest_sha256


async def test_a_run_that_nobody_opened_is_not_found(tmp_path):
    async with student(tmp_path) as (_, stub):
        with pytest.raises(NotFound):
            await told(stub.Status(student_pb2.StudentStatusRequest(run="r")))
        with pytest.raises(NotFound):
            await take_step(stub, 1, 1, seed=1)


async def twice_the_header(head, batches):
    yield student_pb2.StepMessage(header=head)
    yield student_pb2.StepMessage(header=head)


async def no_header(head, batches):
    yield student_pb2.StepMessage(micro_batch=student_pb2.MicroBatch.FromString(batches[0]))


async def nothing(head, batches):
    return
    yield


async def one_too_many(head, batches):
    async for message in messages(head, [*batches, batches[0]]):
        yield message


async def one_too_few(head, batches):
    async for message in messages(head, batches[:-1]):
        yield message


@pytest.mark.parametrize("stream", [twice_the_header, no_header, nothing, one_too_many, one_too_few])
async def test_a_stream_that_is_no_step_is_refused_by_name(stream, tmp_path):
    async with student(tmp_path) as (_, stub):
        await told(stub.OpenRun(open_request()))
        batches = made_batches(1)
        with pytest.raises(InvalidArgument) as refused:
            await told(stub.Step(stream(stepping.header(COMPILED, batches, 1, 1), batches), timeout=60))
        assert refused.value.field
        assert (await take_step(stub, 1, 1, seed=1)).applied_step == 1


async def test_a_step_beyond_the_byte_limit_is_refused_before_it_is_computed(tmp_path):
    async with student(tmp_path, max_step_bytes=1 << 20) as (_, stub):
        await told(stub.OpenRun(open_request()))
        raw = made_batches(1)[0]
        batches = [raw] * ((1 << 20) // len(raw) + 2)
        with pytest.raises(TooLarge):
            await told(stub.Step(messages(stepping.header(COMPILED, batches, 1, 1), batches), timeout=60))


@pytest.mark.slow
async def test_an_engine_that_dies_comes_back_and_the_run_goes_on_from_its_durable_step(tmp_path):
    hosts = []

    def place(spec, context):
        hosts.append(in_child_process(spec, context))
        return hosts[-1]

    async with student(tmp_path, place) as (_, stub):
        await told(stub.OpenRun(open_request()))
        straight = [await take_step(stub, 1, step, seed=step) for step in (1, 2)]
        await told(stub.OpenRun(open_request("again")))
        await _step_run(stub, "again", 1, 1)
        await told(stub.Checkpoint(student_pb2.CheckpointRequest(run="again", epoch=1)))
        os.kill(hosts[0].pid, signal.SIGKILL)
        status = await _reopened(stub, "again")
        assert (status.epoch, status.applied_step, status.durable_step) == (2, 1, 1)
        resumed = await _step_run(stub, "again", 2, 2)
        assert dict(resumed.metrics) == dict(straight[1].metrics)


async def _step_run(stub, run: str, epoch: int, step: int) -> student_pb2.StepReply:
    batches = made_batches(step)
    return await told(stub.Step(messages(stepping.header(COMPILED, batches, epoch, step, run), batches), timeout=60))


async def _reopened(stub, run: str) -> student_pb2.StudentStatus:
    """Tries until the engine is back, for at most a minute."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await told(stub.OpenRun(open_request(run)))
            except EngineFailed as error:
                await asyncio.sleep(error.retry_after_s or 0.2)


def test_a_service_without_a_model_says_how_to_name_one():
    with pytest.raises(ConfigurationError, match="--model"):
        engine_spec(StudentSettings())


def test_a_folder_alone_gives_the_name(tmp_path):
    assert engine_spec(StudentSettings(model=str(tmp_path / "qwen"))).name == "qwen"
