"""A peer of the REST door that says nothing, or says it byte by byte, does not keep its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import APIRouter

from preceptor.config import TeacherSettings
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors import http_protocol, rest_intake
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_serving.run import RunningService, running
from preceptor_serving.service import GrpcService, ServiceContext

PATIENCE_S = 0.3
LONG_S = 30.0  # what a hang costs; no test waits for it
HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class EchoService:
    """One route that reads a body, and one that takes its time."""

    name = "echo"

    def grpc_services(self) -> tuple[GrpcService, ...]:
        return ()

    def rest_routers(self) -> tuple[APIRouter, ...]:
        router = door_router()

        @router.post("/echo")
        @needs(Scope.GENERATE)
        async def echo(body: dict[str, int], call: CurrentCall) -> dict[str, int]:
            return body

        @router.get("/later")
        @needs(Scope.GENERATE)
        async def later(call: CurrentCall) -> str:
            await asyncio.sleep(3 * PATIENCE_S)
            return "done"

        return (router,)

    async def start(self, context: ServiceContext) -> None: ...

    async def stop(self) -> None: ...


@pytest.fixture
async def service() -> AsyncGenerator[RunningService]:
    async with running(EchoService(), TeacherSettings(grpc_port=0, rest_port=0, drain_grace_s=1)) as served:
        yield served


async def exchange(service: RunningService, first: bytes, drop: bytes = b"") -> bytes:
    """All that the server says until it closes; `drop` is sent again and again meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.rest_port)
    writer.write(first)

    async def drip() -> None:
        while drop:
            await asyncio.sleep(PATIENCE_S / 6)
            writer.write(drop)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(LONG_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        dripping.cancel()
        writer.close()


@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"", b""), (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X: a\r\n"), (b"", b"G")],
    ids=["nothing", "headers", "request line"],
)
async def test_a_connection_without_a_request_is_closed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, first: bytes, drop: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", PATIENCE_S)
    assert b"200 OK" not in await exchange(service, first, drop)


async def test_a_second_request_has_no_more_time_than_the_first(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", PATIENCE_S)
    said = await exchange(service, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n", b"X: a\r\n")
    assert said.count(b"200 OK") == 1


async def test_a_request_that_is_being_answered_is_left_alone(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", PATIENCE_S)
    assert b'"done"' in await exchange(service, b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_a_body_that_drips_is_refused_by_name(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_intake, "BODY_GRACE_S", PATIENCE_S)
    monkeypatch.setattr(rest_intake, "LINGER_S", PATIENCE_S)
    monkeypatch.setattr(http_protocol, "HEAD_S", PATIENCE_S)  # what the connection has left after the refusal
    said = await exchange(service, HEAD % 5000 + b"{", b" ")
    assert b" 504 " in said.split(b"\r\n")[0]
    assert b"the body came too slowly" in said


async def test_bytes_that_come_fast_enough_earn_a_body_its_time(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_intake, "BODY_GRACE_S", PATIENCE_S)
    monkeypatch.setattr(rest_intake, "SLOWEST_BYTES_PER_S", 1 / LONG_S)
    monkeypatch.setattr(http_protocol, "HEAD_S", PATIENCE_S)
    assert b'{"a":1}' in await exchange(service, HEAD % 24 + b'{"a": 1}', b" ")
