"""What is refused before there is a request: its code is stable, its connection ends, and its reply arrives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from preceptor.config import TeacherSettings
from preceptor_serving.doors import rest_intake
from preceptor_serving.doors.http_server import HttpDoor
from preceptor_serving.run import RunningService, running
from tests.unit.preceptor_serving.doors.test_slow_clients import HEAD, LONG_S, EchoService, service

__all__ = ["service"]

CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
LARGE_BYTES = 96 << 20
BLOCK = b" " * (1 << 20)


async def say(port: int, *parts: bytes) -> bytes:
    """All that the server says until it closes, to a client that reads when it has said everything."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(LONG_S):
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
    finally:
        writer.close()


def refusal(said: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split(b" ")[1]), json.loads(body)


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"\r\nno size\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /" + b"a" * (1 << 18),
    ],
    ids=["words", "no host", "header name", "two lengths", "length", "coding", "chunk", "tls", "long line"],
)
async def test_bytes_that_are_no_request_have_a_code(service: RunningService, bytes_sent: bytes) -> None:
    status, body = refusal(await say(service.rest_port, bytes_sent))
    assert status in (400, 431)
    assert (body["code"], body["limit"]) == ("INVALID_ARGUMENT", "HTTP/1.1")
    assert all(body[name] for name in ("message", "field", "value"))


@pytest.mark.parametrize(
    ("head", "value"),
    [
        (CHUNKED + b"Content-Length: 5\r\n\r\n", "chunked beside content-length"),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", "chunked beside HTTP/1.0"),
    ],
    ids=["both", "old version"],
)
async def test_a_body_that_ends_in_two_places_is_refused_and_nothing_behind_it_is_read(
    service: RunningService, head: bytes, value: str
) -> None:
    """A second request that hides where a proxy saw the body of the first must not be answered."""
    hidden = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    said = await say(service.rest_port, head, b"0\r\n\r\n", hidden)
    assert said.count(b"HTTP/1.1 ") == 1
    status, body = refusal(said)
    assert (status, body["code"], body["field"], body["value"]) == (400, "INVALID_ARGUMENT", "transfer-encoding", value)


async def test_a_chunked_body_alone_is_taken(service: RunningService) -> None:
    said = await say(service.rest_port, CHUNKED + b"Connection: close\r\n\r\n8\r\n" + b'{"a": 1}' + b"\r\n0\r\n\r\n")
    assert said.endswith(b'{"a":1}')


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_who_sends_all_of_a_body_that_is_too_large_reads_why(service: RunningService, framing: str) -> None:
    """A reset would overtake the reply; the rest of the body is read and thrown away, within bounds."""
    blocks = [BLOCK] * (LARGE_BYTES >> 20)
    parts = [HEAD % LARGE_BYTES, *blocks] if framing == "length" else [CHUNKED + b"\r\n", *map(chunk, blocks), b"0\r\n\r\n"]
    status, body = refusal(await say(service.rest_port, *parts))
    assert (status, body["code"], body["field"]) == (413, "TOO_LARGE", "body")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_what_is_thrown_away_has_bounds(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_intake, "LINGER_BYTES", 1 << 20)
    with pytest.raises(ConnectionError):
        await say(service.rest_port, HEAD % LARGE_BYTES, *[BLOCK] * (LARGE_BYTES >> 20))


async def test_a_peer_that_stops_sending_is_not_waited_for(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_intake, "LINGER_IDLE_S", 0.05)
    status, _ = refusal(await say(service.rest_port, HEAD % LARGE_BYTES))
    assert status == 413


async def test_more_connections_than_the_bound_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    built = HttpDoor.__init__
    monkeypatch.setattr(HttpDoor, "__init__", lambda door, app, host, port, most: built(door, app, host, port, 2))
    async with running(EchoService(), TeacherSettings(grpc_port=0, rest_port=0, drain_grace_s=1)) as served:
        _, idle = await asyncio.open_connection("127.0.0.1", served.rest_port)
        said = await say(served.rest_port, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        idle.close()
    status, body = refusal(said)
    assert (status, body["code"], body["field"], body["limit"]) == (503, "UNAVAILABLE", "connections", "< 2")
