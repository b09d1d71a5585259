"""One file of a journal: its name, its header and the records after it.

``<first sequence, 20 digits>.segment`` continues what came before. ``<first sequence>.base`` replaces it: the state at a
compaction, whole or not there at all, and then whatever was appended since.

::

    "PCJRNL1\\n" | sha256(journal name)[:16] | first sequence u64 | base records u64 | crc32(the 40 bytes before) u32

`base records` says how many records of a base are the state itself; in a segment it is 0.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from preceptor.errors import Conflict, Corrupt
from preceptor.journal.frame import Damage, Record, decode

MAGIC = b"PCJRNL1\n"
_BODY = struct.Struct("<8s16sQQ")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _BODY.size + _CHECK.size
FILE_NAME = re.compile(r"([0-9]{20})\.(segment|base)\Z")
UNFINISHED_SUFFIX = ".new"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """What a file's name says."""

    path: Path
    first: int
    is_base: bool

    @classmethod
    def named(cls, folder: Path, first: int, *, is_base: bool = False) -> SegmentFile:
        return cls(folder / f"{first:020d}.{'base' if is_base else 'segment'}", first, is_base)


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the whole records of a file end, the number of the next one, and whether half a record follows."""

    end: int
    next_sequence: int
    torn: bool


def listed(folder: Path) -> list[SegmentFile]:
    """The folder's segments in order. A base stands after an (empty) segment of the same number, which it replaces."""
    found: list[SegmentFile] = []
    for path in folder.iterdir():
        match = FILE_NAME.match(path.name)
        if match:
            found.append(SegmentFile(path, int(match[1]), match[2] == "base"))
    return sorted(found, key=lambda file: (file.first, file.is_base))


def encode_header(journal_name: str, first: int, base_records: int = 0) -> bytes:
    """The first bytes of a file."""
    body = _BODY.pack(MAGIC, _name_digest(journal_name), first, base_records)
    return body + _CHECK.pack(zlib.crc32(body))


def scan(data: bytes, file: SegmentFile, journal_name: str) -> Generator[Record, None, Tail]:
    """The file's records in order, then its tail. Damage anywhere but at the very end is `Corrupt`."""
    view = memoryview(data)
    if not file.is_base and not _header_holds(data) and not data[HEADER_BYTES - 1 :].strip(b"\x00"):
        return Tail(0, file.first, torn=True)  # the file was just being started
    base_records = _decode_header(data, file, journal_name)
    offset, expected = HEADER_BYTES, file.first
    while offset < len(data):
        found = decode(view, offset)
        if found is Damage.TORN and expected >= file.first + base_records:
            return Tail(offset, expected, torn=True)
        if isinstance(found, Damage):
            raise corrupt(file, offset, "these bytes are not a record")
        record, end = found
        if record.sequence != expected:
            raise corrupt(file, offset, f"record {record.sequence} stands where {expected} belongs")
        yield record
        offset, expected = end, expected + 1
    if expected < file.first + base_records:
        raise corrupt(file, offset, f"the state of {base_records} records ends after {expected - file.first}")
    return Tail(offset, expected, torn=False)


def corrupt(file: SegmentFile, offset: int, what: str) -> Corrupt:
    """The error that names file and offset."""
    return Corrupt(
        f"{file.path} is damaged at byte {offset}: {what}",
        field="journal",
        value=f"{file.path.name}:{offset}",
        hint="every record before this byte is intact; restore the folder from a copy, or start the run again",
    )


def _decode_header(data: bytes, file: SegmentFile, journal_name: str) -> int:
    if not _header_holds(data):
        raise corrupt(file, 0, "its header does not hold")
    magic, name, first, base_records = _BODY.unpack_from(data)
    if magic != MAGIC or first != file.first:
        raise corrupt(file, 0, "it is not the journal file that its name says")
    if name != _name_digest(journal_name):
        raise Conflict(
            f"{file.path.parent} is the journal of another run than {journal_name!r}",
            field="journal",
            value=journal_name,
            hint="give the run its own folder",
        )
    return base_records


def _header_holds(data: bytes) -> bool:
    return len(data) >= HEADER_BYTES and zlib.crc32(data[: _BODY.size]) == _CHECK.unpack_from(data, _BODY.size)[0]


def _name_digest(journal_name: str) -> bytes:
    return hashlib.sha256(journal_name.encode()).digest()[:16]
