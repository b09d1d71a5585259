"""The bytes of one record.

::

    length u32 | kind u8 | zero u8 x 3 | sequence u64 | crc32(payload) u32 | crc32(the 20 bytes before) u32 | payload | 0xED

All little-endian. The header has a checksum of its own, so that a flipped length is known for what it is and never taken
for a record that runs past the end of the file. The last byte is never zero, so that a record whose end was allocated but
not written (zeros after a power loss) differs from one that was written and then damaged.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import Enum

from preceptor.errors import InvalidArgument, TooLarge

_BODY = struct.Struct("<IB3xQI")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _BODY.size + _CHECK.size
END_MARK = b"\xed"
OVERHEAD_BYTES = HEADER_BYTES + len(END_MARK)
MAX_PAYLOAD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """What a caller writes: a kind from 1 to 255 and any bytes."""

    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal holds: an entry under its number. Numbers rise by one, across files and compactions."""

    sequence: int
    kind: int
    payload: bytes


class Damage(Enum):
    """Why the bytes at an offset are not a record."""

    TORN = "torn"  # its write never ended: only possible at the very end
    BROKEN = "broken"  # it was written whole and has changed since


def check(entry: Entry) -> None:
    """Returns when the entry can be a record."""
    if not 1 <= entry.kind <= 255:
        raise InvalidArgument("a record kind is one byte above 0", field="kind", value=entry.kind, limit="1..255")
    if len(entry.payload) > MAX_PAYLOAD_BYTES:
        raise TooLarge("the record is too large", field="payload", value=len(entry.payload), limit=f"{MAX_PAYLOAD_BYTES} bytes")


def encode(entry: Entry, sequence: int) -> bytes:
    """The frame of one record."""
    check(entry)
    body = _BODY.pack(len(entry.payload), entry.kind, sequence, zlib.crc32(entry.payload))
    return b"".join((body, _CHECK.pack(zlib.crc32(body)), entry.payload, END_MARK))


def decode(data: memoryview, offset: int) -> tuple[Record, int] | Damage:
    """The record at `offset` and where the next one starts; otherwise what is wrong with these bytes."""
    header = data[offset : offset + HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return Damage.TORN
    if zlib.crc32(header[: _BODY.size]) != _CHECK.unpack_from(header, _BODY.size)[0]:
        return _unwritten_from(data, offset + HEADER_BYTES - 1)
    length, kind, sequence, checksum = _BODY.unpack_from(header)
    start = offset + HEADER_BYTES
    end = start + length
    if end + len(END_MARK) > len(data):
        return Damage.TORN
    payload = bytes(data[start:end])
    if data[end] != END_MARK[0] or zlib.crc32(payload) != checksum:
        return _unwritten_from(data, end)
    return Record(sequence, kind, payload), end + len(END_MARK)


def _unwritten_from(data: memoryview, offset: int) -> Damage:
    """Zeros from here to the end of the file are space that was allocated and never written."""
    return Damage.BROKEN if bytes(data[offset:]).strip(b"\x00") else Damage.TORN
