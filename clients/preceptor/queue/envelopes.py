"""Messages of the queue as they are stored: results cut into stream entries and blobs, letters, and what an error counts for."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from google.protobuf.message import DecodeError

from preceptor.errors import CODES, Corrupt, ErrorCode, Gap, InvalidArgument
from preceptor.queue.keys import Flow
from preceptor.queue.types import Lease, Then
from preceptor_proto.v1 import common_pb2, teacher_pb2

SCHEMA = 1
SCHEMA_OF_TEXTS = 2
"""Of a task of texts and of its verdicts: a reader of the first schema would misread them, and refuses them by this."""
BLOB_RANGE = re.compile(r"-([0-9]+)-([0-9]+)\Z")


@dataclass(frozen=True, slots=True)
class Packed:
    """One entry of `out`, and the blob it refers to where its rows are large."""

    has_rows: bool  # if only their place: zero rows say where a task ended
    start: int
    end: int
    entry: bytes
    blob_key: str
    blob: bytes

    @property
    def payload_bytes(self) -> int:
        return len(self.entry) + len(self.blob)


class Blame(Enum):
    """What a failed lease says about its task."""

    NOTHING = "nothing"  # somebody else's trouble
    DEATH = "death"  # its engine died under it, perhaps because of a neighbour
    STRIKE = "strike"  # it was this task


def blame_of(error: common_pb2.ErrorDetail) -> Blame:
    """Read off the code alone."""
    name = common_pb2.ErrorCode.Name(error.code) if error.code in common_pb2.ErrorCode.values() else ""
    if name not in ErrorCode.__members__:
        raise InvalidArgument("a failure needs a code", field="error.code", value=error.code, limit="docs/errors.md")
    code = ErrorCode(name)
    if code is ErrorCode.ENGINE_FAILED:
        return Blame.DEATH
    return Blame.NOTHING if CODES[code].retryable else Blame.STRIKE


def pack(lease: Lease, envelopes: Sequence[teacher_pb2.Envelope], then: Then, inline_rows_bytes: int) -> list[Packed]:
    """What a commit stores. A task that finishes says so in its last entry, and gets an entry for it if need be."""
    stamped = [_stamped(lease, envelope) for envelope in envelopes]
    if then is Then.FINISH:
        nothing = teacher_pb2.Envelope(rows=common_pb2.Rows(start=lease.next_row))
        stamped = stamped or [_stamped(lease, nothing)]
        stamped[-1].finished = True
    packed: list[Packed] = []
    next_row = lease.next_row
    for envelope in stamped:
        start, end = row_range(envelope, next_row)
        if packed and start != next_row:
            raise Gap("rows of one commit are not consecutive", field="rows.start", value=start, limit=next_row)
        packed.append(_packed(lease, envelope, start, end, inline_rows_bytes))
        next_row = end
    return packed


def left_s(task: teacher_pb2.ScoreTask, now_ms: int) -> float:
    """Until the task's deadline; infinite where it has none."""
    return (task.deadline_unix_ms - now_ms) / 1000 if task.deadline_unix_ms else math.inf


def too_late(task: teacher_pb2.ScoreTask) -> teacher_pb2.Envelope:
    """What the learner is told of a task that ended uncomputed at its deadline."""
    error = common_pb2.ErrorDetail(
        code=common_pb2.DEADLINE_EXCEEDED,
        field="deadline_unix_ms",
        value=str(task.deadline_unix_ms),
        message="nobody answered it in time",
    )
    return teacher_pb2.Envelope(schema=SCHEMA, error=error)


def row_range(envelope: teacher_pb2.Envelope, next_row: int) -> tuple[int, int]:
    """Rows of an entry, read off its blob's name where they are in a blob; entries without rows stand at the next row."""
    match envelope.WhichOneof("body"):
        case "rows":
            return envelope.rows.start, envelope.rows.start + envelope.rows.count
        case "blob":
            named = BLOB_RANGE.search(envelope.blob.key)
            return (int(named[1]), int(named[2])) if named else (next_row, next_row)
        case _:
            return next_row, next_row


def unpack(entry: bytes) -> teacher_pb2.Envelope:
    """The envelope of one entry. What this version cannot read becomes an error of no task: read past it, it is a hole."""
    try:
        envelope = teacher_pb2.Envelope.FromString(entry)
    except DecodeError as error:
        return _unreadable(str(error))
    schema = _schema_of(envelope)
    return envelope if envelope.schema == schema else _unreadable(f"schema {envelope.schema}, not {schema}")


def open_blob(blob: teacher_pb2.BlobRef, payload: bytes | None) -> common_pb2.Rows | None:
    """The rows, or None when these bytes are not the ones that the entry names."""
    if payload is None or len(payload) != blob.payload_bytes or hashlib.sha256(payload).digest() != blob.sha256:
        return None
    return common_pb2.Rows.FromString(payload)


def check_blob_key(flow: Flow, key: str) -> str:
    """The key itself when it is a blob of this flow: an entry never names a key outside its job."""
    prefix, _, blob_id = key.rpartition(":")
    if key != flow.blob(blob_id):
        raise Corrupt("a result names a blob outside its job", field="blob.key", value=key, limit=f"{prefix}:...")
    return key


def letter_of(
    task: teacher_pb2.ScoreTask, reason: common_pb2.ErrorDetail, strikes: int, died_unix_ms: int
) -> tuple[teacher_pb2.DeadLetter, teacher_pb2.Envelope]:
    """The dead letter, and the last result that tells the learner why no more rows come."""
    letter = teacher_pb2.DeadLetter(task=task, reason=reason, attempts=strikes, trace=task.trace, died_unix_ms=died_unix_ms)
    told = teacher_pb2.Envelope(schema=SCHEMA, task_id=task.task_id, error=reason, trace=task.trace, finished=True)
    return letter, told


def _unreadable(why: str) -> teacher_pb2.Envelope:
    detail = common_pb2.ErrorDetail(code=common_pb2.CORRUPT, field="out", message=f"a result cannot be read: {why}")
    return teacher_pb2.Envelope(schema=SCHEMA, error=detail)


def _stamped(lease: Lease, envelope: teacher_pb2.Envelope) -> teacher_pb2.Envelope:
    stamped = teacher_pb2.Envelope()
    stamped.CopyFrom(envelope)
    stamped.schema, stamped.task_id, stamped.trace = _schema_of(envelope), lease.task_id, lease.task.trace
    return stamped


def _schema_of(envelope: teacher_pb2.Envelope) -> int:
    return SCHEMA_OF_TEXTS if envelope.WhichOneof("body") == "grades" else SCHEMA


def _packed(lease: Lease, envelope: teacher_pb2.Envelope, start: int, end: int, inline_rows_bytes: int) -> Packed:
    key, blob, has_rows = "", b"", envelope.WhichOneof("body") == "rows"
    if has_rows and envelope.rows.ByteSize() > inline_rows_bytes:
        blob = envelope.rows.SerializeToString(deterministic=True)
        # Named by the fence: what a later worker computes for the same rows never replaces bytes that an entry has named.
        key = lease.flow.blob(f"{lease.fence.hex()}-{start}-{end}")
        named = teacher_pb2.BlobRef(key=key, payload_bytes=len(blob), sha256=hashlib.sha256(blob).digest())
        envelope.blob.CopyFrom(named)
    return Packed(has_rows, start, end, envelope.SerializeToString(deterministic=True), key, blob)
