"""Several byte strings as one: each behind its length as u64 little-endian. How a step travels to the engine's process."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from preceptor.errors import Corrupt

LENGTH = struct.Struct("<Q")


def pack(parts: Iterable[bytes]) -> bytes:
    return b"".join(piece for part in parts for piece in (LENGTH.pack(len(part)), part))


def unpack(payload: bytes) -> list[bytes]:
    """The parts; at least one."""
    parts: list[bytes] = []
    at = 0
    while at + LENGTH.size <= len(payload):
        (length,) = LENGTH.unpack_from(payload, at)
        at += LENGTH.size
        parts.append(payload[at : at + length])
        at += length
    if at != len(payload) or not parts:
        raise Corrupt("not a pack of parts", field="payload", value=f"{len(payload)} bytes")
    return parts
