"""What the two processes say to each other: a fixed header, then bytes.

    u32 payload_bytes | u8 kind | 3 zero bytes | u64 call        little-endian

| kind | from | payload |
|---|---|---|
| START | parent | JSON: engine and options |
| READY | child | empty: the engine is loaded |
| CALL | parent | method name, a zero byte, the request |
| REPLY | child | one chunk of the reply stream |
| DONE | child | empty: the stream is complete |
| ERROR | child | `ErrorDetail`; with call 0 the engine could not be loaded |
| CANCEL | parent | empty: nobody waits for this call any more |
| PING, PONG | both | PONG: f64 seconds that the current turn has been running |
| STOP | parent | empty: finish what is open, close the engine, exit |
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

from preceptor.errors import Corrupt, TooLarge

HEADER = struct.Struct("<IB3xQ")
PROGRESS = struct.Struct("<d")
MAX_PAYLOAD_BYTES = 1 << 30


class Kind(IntEnum):
    START = 1
    READY = 2
    CALL = 3
    REPLY = 4
    DONE = 5
    ERROR = 6
    CANCEL = 7
    PING = 8
    PONG = 9
    STOP = 10


KINDS = frozenset(int(kind) for kind in Kind)


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    call: int = 0
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        if len(self.payload) > MAX_PAYLOAD_BYTES:
            raise TooLarge(
                f"{len(self.payload)} bytes are too many between a service and its engine",
                field="payload",
                value=len(self.payload),
                limit=MAX_PAYLOAD_BYTES,
                hint="send fewer items or ask for fewer signals in one call",
            )
        return HEADER.pack(len(self.payload), self.kind, self.call) + self.payload


def join_name(name: str, rest: bytes) -> bytes:
    """A name, a zero byte, the rest."""
    return name.encode() + b"\0" + rest


def split_name(payload: bytes) -> tuple[str, bytes]:
    name, _, rest = payload.partition(b"\0")
    return name.decode(), rest


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None where the other side has gone, also in the middle of one."""
    try:
        payload_bytes, kind, call = _unpack(await reader.readexactly(HEADER.size))
        return Frame(kind, call, await reader.readexactly(payload_bytes))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive_frame(connection: socket.socket) -> Frame | None:
    """The same on a blocking socket."""
    header = _receive_exactly(connection, HEADER.size)
    if header is None:
        return None
    payload_bytes, kind, call = _unpack(header)
    payload = _receive_exactly(connection, payload_bytes)
    return None if payload is None else Frame(kind, call, payload)


def _unpack(header: bytes) -> tuple[int, Kind, int]:
    payload_bytes, kind, call = HEADER.unpack(header)
    if kind not in KINDS or payload_bytes > MAX_PAYLOAD_BYTES:
        raise Corrupt("not a frame", field="header", value=header.hex(), limit=f"kinds 1..{len(Kind)}")
    return payload_bytes, Kind(kind), call


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    """`count` bytes, or None where the other side has gone."""
    buffer = bytearray(count)
    view, filled = memoryview(buffer), 0
    while filled < count:
        try:
            received = connection.recv_into(view[filled:])
        except ConnectionError:
            return None
        if not received:
            return None
        filled += received
    return bytes(buffer)
