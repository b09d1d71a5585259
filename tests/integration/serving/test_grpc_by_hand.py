"""Frames and metadata that no gRPC library sends: each stream ends with a status, and leaves neither a place nor a task."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from preceptor_serving.doors import grpc_server
from preceptor_serving.run import RunningService, running
from tests.integration.serving.clients import channel, outcome, score_request
from tests.integration.serving.score_service import ScoreService
from tests.integration.serving.test_requests import settings

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
SCORE = "/preceptor.v1.Teacher/Score"
LONG_S = 20.0  # what a hang costs; no test waits for it
Field = tuple[str, str]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def length(value: int) -> bytes:
    """An HPACK integer with a prefix of 7 bits."""
    if value < 127:
        return bytes([value])
    value, out = value - 127, bytearray([127])
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def header_block(fields: Sequence[Field]) -> bytes:
    """Every field a literal, never indexed."""
    return b"".join(b"\0" + b"".join(length(len(text)) + text.encode("latin-1") for text in one) for one in fields)


def head(path: str = SCORE, *more: Field) -> list[Field]:
    plain = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    return [*plain, ("content-type", "application/grpc"), *more]


def message(raw: bytes, says: int | None = None, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(raw) if says is None else says) + raw


@dataclass
class Raw:
    """A connection that speaks HTTP/2 in bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def headers(self, stream: int, fields: Sequence[Field], flags: int = 0) -> None:
        self.writer.write(frame(HEADERS, END_HEADERS | flags, stream, header_block(fields)))

    def data(self, stream: int, payload: bytes, flags: int = END_STREAM) -> None:
        self.writer.write(frame(DATA, flags, stream, payload))

    async def ended(self, stream: int) -> str:
        """How the server ends the stream or the connection."""
        try:
            async with asyncio.timeout(LONG_S):
                while True:
                    size, kind, flags, where = struct.unpack(">IBBI", b"\0" + await self.reader.readexactly(9))
                    await self.reader.readexactly(size)
                    if kind == SETTINGS and not flags & ACK:
                        self.writer.write(frame(SETTINGS, ACK, 0))
                    if kind == GOAWAY:
                        return "goaway"
                    if where == stream and (kind == RST_STREAM or (flags & END_STREAM and kind in (HEADERS, DATA))):
                        return "reset" if kind == RST_STREAM else "status"
        except (asyncio.IncompleteReadError, ConnectionError):
            return "closed"


@asynccontextmanager
async def connected(service: RunningService) -> AsyncGenerator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.grpc_port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def service() -> AsyncGenerator[RunningService]:
    async with running(ScoreService({}, inline=True), settings()) as served:
        yield served


async def is_whole(service: RunningService) -> None:
    """It serves others, and nothing is in flight."""
    async with channel(service.grpc_port) as opened:
        assert await outcome(opened) == "OK"
    async with asyncio.timeout(LONG_S):
        await service.frame.idle()


GOOD = score_request([1, 2], [3, 4]).SerializeToString()
HALVES = {
    "a message shorter than it says": message(GOOD, says=len(GOOD) + 90),
    "half of a message's head": b"\0\0",
    "no message": b"",
    "a length of 4 GiB": message(GOOD, says=0xFFFFFFFF),
    "half of a protobuf": message(GOOD[: len(GOOD) // 2]),
    "noise": message(b"\xff" * 50),
    "a compression that was not agreed on": message(GOOD, compressed=1),
    "a compression that does not exist": message(GOOD, compressed=7),
    "two messages": message(GOOD) * 2,
}


@pytest.mark.parametrize("what", HALVES)
async def test_a_request_that_is_cut_or_wrong_ends_with_a_status(service: RunningService, what: str) -> None:
    """The library waits for the rest of a message that was cut off, until the peer's deadline or end."""
    async with connected(service) as raw:
        raw.headers(1, head(SCORE, ("grpc-timeout", "300m")))
        raw.data(1, HALVES[what])
        assert await raw.ended(1) in ("status", "reset")
    await is_whole(service)


HEADS = {
    "no such method": head("/preceptor.v1.Teacher/Dream"),
    "no such service": head("/x"),
    "an empty path": head(""),
    "a path without an end": head("/" + "a" * 4000),
    "GET": [(name, "GET" if name == ":method" else value) for name, value in head()],
    "another content type": [(name, "text/html" if name == "content-type" else value) for name, value in head()],
    "a timeout that is none": head(SCORE, ("grpc-timeout", "soon")),
    "no time": head(SCORE, ("grpc-timeout", "0n")),
    "a key of noise": head(SCORE, ("authorization", "\x80\xff")),
    "a key of 6 KiB": head(SCORE, ("authorization", "Bearer " + "k" * 6000)),
    "two keys": head(SCORE, ("authorization", "Bearer a"), ("authorization", "Bearer b")),
    "a binary field that is no base64": head(SCORE, ("x-bin", "%%%")),
    "a request id with a line feed": head(SCORE, ("x-request-id", "a\nb")),
    "metadata of 64 KiB": head(SCORE, *((f"x-{number}", "v" * 1000) for number in range(16))),
}


@pytest.mark.parametrize("what", HEADS)
async def test_a_head_that_is_wrong_ends_with_a_status_and_the_service_goes_on(service: RunningService, what: str) -> None:
    async with connected(service) as raw:
        raw.headers(1, HEADS[what])
        raw.data(1, message(GOOD))
        assert await raw.ended(1) in ("status", "reset", "goaway", "closed")
    await is_whole(service)


async def test_a_peer_that_resets_its_stream_leaves_nothing_running(service: RunningService) -> None:
    async with connected(service) as raw:
        for stream in range(1, 41, 2):
            raw.headers(stream, head())
            raw.data(stream, message(GOOD), flags=0)
            raw.writer.write(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        await raw.writer.drain()
    await is_whole(service)


async def test_a_peer_that_answers_no_ping_is_cut_off_with_all_of_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "KEEPALIVE_MS", 1000)
    monkeypatch.setattr(grpc_server, "KEEPALIVE_TIMEOUT_MS", 1000)
    async with running(ScoreService({}, inline=True), settings()) as served, connected(served) as raw:
        for stream in range(1, 201, 2):
            raw.headers(stream, head())
        assert await raw.ended(0) in ("goaway", "closed")
        assert served.frame.in_flight == 0, "without a message nothing begins"
        await is_whole(served)


async def test_a_stream_with_a_deadline_ends_by_it(service: RunningService) -> None:
    async with connected(service) as raw:
        raw.headers(1, head(SCORE, ("grpc-timeout", "50m")))
        assert await raw.ended(1) in ("status", "reset")
    await is_whole(service)


async def test_bad_frames_cost_nobody_else_anything(service: RunningService) -> None:
    async with channel(service.grpc_port) as other:
        for wrong in (
            frame(SETTINGS, 0, 1),  # of a stream
            frame(CONTINUATION, END_HEADERS, 1, b""),  # of nothing
            frame(DATA, 0, 0, b"x"),  # of no stream
            frame(HEADERS, END_HEADERS, 2, header_block(head())),  # a stream of the server's
            frame(PING, 0, 0, b"short"),
            frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),  # no HPACK
            b"\xff" * 100,
        ):
            async with connected(service) as raw:
                raw.writer.write(wrong)
                await raw.writer.drain()
                assert await outcome(other) == "OK"
            assert await outcome(other) == "OK"
    await is_whole(service)


async def test_a_server_with_more_streams_than_places_refuses_and_recovers(service: RunningService) -> None:
    """Calls beyond what one process answers are refused at once, and a leaver's places are free again."""
    async with channel(service.grpc_port) as opened:
        calls = [asyncio.ensure_future(outcome(opened, timeout_s=LONG_S)) for _ in range(400)]
        for call in calls[::2]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
    assert {one for one in done if isinstance(one, str)} <= {"OK", "EXHAUSTED", "RESOURCE_EXHAUSTED"}
    assert any(isinstance(one, asyncio.CancelledError | grpc.RpcError) for one in done)
    await is_whole(service)
