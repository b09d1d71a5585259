"""What becomes of a request on either door: served, refused by name, or told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from preceptor.config import TeacherSettings
from preceptor.errors import (
    ConfigurationError,
    DeadlineExceeded,
    EngineFailed,
    Internal,
    InvalidArgument,
    NotFound,
    PreceptorError,
    TooLarge,
)
from preceptor.rpc_errors import from_rpc
from preceptor_proto.v1 import common_pb2, teacher_pb2, teacher_pb2_grpc
from preceptor_serving.run import RunningService, running
from tests.integration.serving.clients import channel, outcome, score, score_request
from tests.integration.serving.processes import rest_client
from tests.integration.serving.score_service import ScoreService

MAX_BYTES = 1 << 20
CRASH, HANG, DEFECT = 60, 59, 58
ENGINE = {"crash_token": CRASH, "hang_token": HANG, "defect_token": DEFECT}
BODY = {"context": [1, 2], "response": [3, 4]}


def settings(**changes: object) -> TeacherSettings:
    plain = {
        "grpc_port": 0,
        "rest_port": 0,
        "max_message_bytes": MAX_BYTES,
        "drain_grace_s": 0.5,
    }
    return TeacherSettings(**plain | changes)


@pytest.fixture
async def service(request: pytest.FixtureRequest) -> AsyncGenerator[RunningService]:
    """With the engine in a thread; in a process of its own where the test is marked with `hosted`."""
    async with running(ScoreService(ENGINE, inline=getattr(request, "param", "inline") == "inline"), settings()) as served:
        yield served


hosted = pytest.mark.parametrize("service", ["hosted"], indirect=True, ids=["hosted"])


@pytest.fixture
async def grpc_door(service: RunningService) -> AsyncGenerator[grpc.aio.Channel]:
    async with channel(service.grpc_port) as opened:
        yield opened


@pytest.fixture
async def rest_door(service: RunningService) -> AsyncGenerator[httpx.AsyncClient]:
    async with rest_client() as client:
        client.base_url = f"http://127.0.0.1:{service.rest_port}"
        yield client


# ---------------------------------------------------------------- served


async def test_both_doors_reach_one_service(grpc_door: grpc.aio.Channel, rest_door: httpx.AsyncClient) -> None:
    from preceptor import wire

    over_grpc = wire.rows_from_proto((await score(grpc_door)).results[0].rows).sampled.tolist()
    over_rest = (await rest_door.post("/v1/score", json=BODY)).json()["sampled"]
    assert over_grpc == pytest.approx(over_rest, abs=0)


async def test_health_and_reflection_tell_the_standard_tools(service: RunningService, grpc_door: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(grpc_door)
    for name in ("", "preceptor.v1.Teacher"):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(grpc_door)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="preceptor.v1.Teacher"),
    ]
    replies = [reply async for reply in reflection.ServerReflectionInfo(iter(requests))]
    listed = {found.name for found in replies[0].list_services_response.service}
    assert listed == {"preceptor.v1.Teacher", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert any(b"ScoreRequest" in file for file in replies[1].file_descriptor_response.file_descriptor_proto)


async def test_a_request_id_is_kept_or_given(grpc_door: grpc.aio.Channel, rest_door: httpx.AsyncClient) -> None:
    kept = await rest_door.post("/v1/score", json=BODY, headers={"X-Request-ID": "mine-1"})
    odd = await rest_door.post("/v1/score", json=BODY, headers={"X-Request-ID": "a b\tc"})
    assert kept.headers["x-request-id"] == "mine-1"
    assert len(odd.headers["x-request-id"]) == 32
    call = teacher_pb2_grpc.TeacherStub(grpc_door).Score(score_request([1], [2]), metadata=(("x-request-id", "mine-2"),))
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine-2"


async def test_the_server_does_not_say_what_it_is_made_of(rest_door: httpx.AsyncClient) -> None:
    for path in ("/livez", "/v1/score", "/nowhere"):
        assert "server" not in (await rest_door.get(path)).headers


# ---------------------------------------------------------------- refused by name


async def test_a_broken_limit_is_named_by_its_path(grpc_door: grpc.aio.Channel) -> None:
    request = score_request([1, 2], [3])
    request.items[0].sequence.segments[1].response.u32le += b"\0"
    with pytest.raises(InvalidArgument) as caught:
        await score(grpc_door, request)
    assert caught.value.field == "items[0].sequence.segments[1].response.u32le"
    assert caught.value.limit == "a multiple of 4 bytes"


async def test_bytes_that_are_no_message_are_no_internal_error(grpc_door: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await grpc_door.unary_unary("/preceptor.v1.Teacher/Score")(b"\xff\xff\xff")
    error = from_rpc(failure.value)
    assert (type(error), error.limit) == (InvalidArgument, "ScoreRequest")


async def test_an_unknown_call_or_route_is_not_found(grpc_door: grpc.aio.Channel, rest_door: httpx.AsyncClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await grpc_door.unary_unary("/preceptor.v1.Teacher/Nothing")(b"")
    assert isinstance(from_rpc(failure.value), NotFound)
    reply = await rest_door.get("/v1/nothing")
    assert (reply.status_code, reply.json()["code"], reply.json()["value"]) == (404, "NOT_FOUND", "/v1/nothing")
    one_slash_more = await rest_door.post("/k/any/v1/score/", json=BODY)
    assert (one_slash_more.status_code, one_slash_more.json()["value"]) == (404, "/v1/score/"), "no redirect that loses the key"
    wrong_method = await rest_door.get("/v1/score")
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, "INVALID_ARGUMENT")
    assert wrong_method.headers["allow"] == "POST"
    assert [wrong_method.json()[name] for name in ("field", "value", "limit")] == ["method", "GET", "POST"]


async def test_a_wrong_body_is_named_by_its_path(rest_door: httpx.AsyncClient) -> None:
    expectations = {"context": [], "response": [1, "x"], "temperature": 0}
    for field, value in expectations.items():
        reply = await rest_door.post("/v1/score", json=BODY | {field: value})
        error = reply.json()
        assert (reply.status_code, error["code"]) == (400, "INVALID_ARGUMENT")
        assert error["field"] == ("response[1]" if field == "response" else field)
    for broken in (b"{", b"\xff", b"[]", b""):
        reply = await rest_door.post("/v1/score", content=broken, headers={"content-type": "application/json"})
        assert (reply.status_code, reply.json()["code"]) == (400, "INVALID_ARGUMENT")


async def test_every_error_has_the_same_eight_fields(rest_door: httpx.AsyncClient) -> None:
    fields = {"code", "message", "field", "value", "limit", "hint", "retry_after_ms", "queue_position"}
    for reply in (await rest_door.get("/nowhere"), await rest_door.post("/v1/score", json={})):
        assert reply.json().keys() == fields


# ---------------------------------------------------------------- sizes


def request_of(total_bytes: int) -> teacher_pb2.ScoreRequest:
    """A valid request of exactly that many bytes: ids in steps of four, the rest in an id of its own."""
    request = score_request([1], [2], job="x")
    spare = total_bytes - request.ByteSize() - 8
    request.items[0].sequence.segments[0].context.u32le = b"\x01\0\0\0" * (spare // 4)
    while request.ByteSize() < total_bytes:
        request.job += "x"
    assert request.ByteSize() == total_bytes
    return request


@pytest.mark.parametrize(
    ("over_bytes", "expected"), [(-1, "OK"), (0, "OK"), (1, "TOO_LARGE"), (1 << 16, "TOO_LARGE"), (4 << 20, "TOO_LARGE")]
)
async def test_grpc_messages_up_to_the_limit_and_not_beyond(grpc_door: grpc.aio.Channel, over_bytes: int, expected: str) -> None:
    assert await outcome(grpc_door, request_of(MAX_BYTES + over_bytes)) == expected


async def test_a_slightly_oversized_grpc_message_is_refused_with_its_size(grpc_door: grpc.aio.Channel) -> None:
    with pytest.raises(TooLarge) as caught:
        await score(grpc_door, request_of(MAX_BYTES + 1))
    assert (caught.value.field, caught.value.value) == ("request", f"{MAX_BYTES + 1} bytes")
    assert caught.value.limit == f"<= {MAX_BYTES} bytes"


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_rest_bodies_up_to_the_limit_and_not_beyond(rest_door: httpx.AsyncClient, chunked: bool) -> None:
    for over_bytes, status in ((-1, 200), (0, 200), (1, 413), (3 << 20, 413)):
        body = b'{"context": [1], "response": [2]'
        body += b" " * (MAX_BYTES + over_bytes - len(body) - 1) + b"}"
        content = in_pieces(body) if chunked else body
        reply = await rest_door.post("/v1/score", content=content, headers={"content-type": "application/json"})
        assert reply.status_code == status, reply.text
        if status == 413:
            assert (reply.json()["code"], reply.json()["limit"]) == ("TOO_LARGE", f"<= {MAX_BYTES} bytes")


async def in_pieces(body: bytes) -> AsyncGenerator[bytes]:
    for at in range(0, len(body), 1 << 16):
        yield body[at : at + (1 << 16)]


# ---------------------------------------------------------------- deadlines


@hosted
async def test_a_call_ends_at_its_deadline_on_both_doors(grpc_door: grpc.aio.Channel, rest_door: httpx.AsyncClient) -> None:
    with pytest.raises(DeadlineExceeded):
        await score(grpc_door, score_request([1], [HANG]), timeout_s=0.2)
    body = {"context": [1], "response": [HANG]}
    reply = await rest_door.post("/v1/score", json=body, headers={"X-Request-Timeout": "0.2"})
    assert (reply.status_code, reply.json()["code"]) == (504, "DEADLINE_EXCEEDED")
    wrong = await rest_door.post("/v1/score", json=body, headers={"X-Request-Timeout": "soon"})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "x-request-timeout")


async def test_a_call_without_a_deadline_gets_the_servers() -> None:
    brief = settings(max_deadline_s=0.3)
    async with running(ScoreService(ENGINE), brief) as served, channel(served.grpc_port) as opened:
        with pytest.raises(DeadlineExceeded):
            await score(opened, score_request([1], [HANG]), timeout_s=None)
        with pytest.raises(DeadlineExceeded):  # and one that asks for more gets no more
            await score(opened, score_request([1], [HANG]), timeout_s=600)


# ---------------------------------------------------------------- engines that fail


@hosted
async def test_an_engine_crash_is_not_a_door_crash(
    service: RunningService, grpc_door: grpc.aio.Channel, rest_door: httpx.AsyncClient
) -> None:
    neighbours = [asyncio.create_task(outcome(grpc_door)) for _ in range(3)]
    with pytest.raises(EngineFailed) as caught:
        await score(grpc_door, score_request([1], [CRASH]))
    assert caught.value.retryable
    assert "SIGKILL" in caught.value.message
    assert set(await asyncio.gather(*neighbours)) <= {"OK", "ENGINE_FAILED"}
    assert (await rest_door.get("/livez")).status_code == 200
    assert await outcome(grpc_door) == "OK"  # the next request waits for the restart
    assert service.meters.value("preceptor_engine_restarts_total", engine="fake") == 1
    assert service.meters.value("preceptor_engine_up", engine="fake") == 1


@hosted
async def test_a_dead_engine_shows_on_the_probes(service: RunningService, grpc_door: grpc.aio.Channel) -> None:
    seen: list[tuple[str, bool]] = []
    service.lifecycle.listen(lambda status: seen.append((str(status.state), status.serving)))
    await outcome(grpc_door, score_request([1], [CRASH]))
    assert await outcome(grpc_door) == "OK"
    assert seen == [("ready", True), ("degraded", False), ("ready", True)]


async def test_a_defect_is_told_by_request_id_and_survived(grpc_door: grpc.aio.Channel) -> None:
    with pytest.raises(Internal) as caught:
        await score(grpc_door, score_request([1], [DEFECT]))
    assert "staged" not in caught.value.message  # details are for the log
    assert await outcome(grpc_door) == "OK"


# ---------------------------------------------------------------- accounting and ports


async def test_every_request_is_counted_once_by_its_outcome(
    service: RunningService, grpc_door: grpc.aio.Channel, rest_door: httpx.AsyncClient
) -> None:
    await outcome(grpc_door)
    await outcome(grpc_door, teacher_pb2.ScoreRequest())
    await rest_door.post("/v1/score", json=BODY)
    await rest_door.get("/nowhere")
    meters = service.meters
    for door, method, code in (
        ("grpc", "Teacher.Score", "OK"),
        ("grpc", "Teacher.Score", "INVALID_ARGUMENT"),
        ("rest", "POST /v1/score", "OK"),
        ("rest", "unmatched", "NOT_FOUND"),
    ):
        assert meters.value("preceptor_requests_total", door=door, method=method, code=code) == 1
    assert meters.value("preceptor_in_flight", door="grpc") == 0
    assert meters.value("preceptor_received_bytes_total", door="grpc") == score_request([1, 2], [3, 4]).ByteSize()
    page = (await rest_door.get("/metrics")).text
    assert 'preceptor_service_state{state="ready"} 1.0' in page


@pytest.mark.parametrize("knob", ["grpc_port", "rest_port"])
async def test_a_taken_port_is_named_with_its_flag(service: RunningService, knob: str) -> None:
    taken = getattr(service, knob)
    with pytest.raises(ConfigurationError) as caught:
        async with running(ScoreService(), settings(**{knob: taken})):
            pass
    assert (caught.value.field, caught.value.value) == (knob, str(taken))
    assert f"--{knob.replace('_', '-')}" in caught.value.hint


def test_all_codes_have_a_grpc_status_and_survive_the_trip() -> None:
    from preceptor.error_details import detail_of, error_of
    from preceptor.errors import CODES, error_classes
    from preceptor.rpc_errors import to_status

    for code, kind in error_classes().items():
        error: PreceptorError = kind("ä" * 2000, field="f", value="v", limit="l", hint="h", retry_after_s=1.5, queue_position=3)
        status = to_status(error)
        assert status.code.name == CODES[code].grpc_status
        assert sum(len(value) for _, value in status.trailing_metadata) < 8192
        back = error_of(common_pb2.ErrorDetail.FromString(detail_of(error).SerializeToString()))
        assert (type(back), back.field, back.value, back.limit, back.hint) == (kind, "f", "v", "l", "h")
        assert (back.retry_after_s, back.queue_position) == (1.5, 3)
