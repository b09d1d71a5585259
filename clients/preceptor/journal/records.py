"""What a learner writes down, as typed records, and their bytes.

A record is ``u32 length of the header | header | parts``: the header is one JSON object of the small fields and the list
`parts` of the lengths of the byte strings that follow in the order of the class. Bytes are never put into JSON.

Adding a record: write a frozen dataclass whose fields have types listed in `_FIELDS`, give it the next free number in
`KINDS`, and say in `state.py` what it does to the learner's state. Numbers are never used again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, cast

from preceptor.errors import Corrupt, InvalidArgument
from preceptor.journal.frame import Entry, Record
from preceptor.names import rollout_from_text, rollout_text
from preceptor.types import RolloutId

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class PromptTaken:
    """A prompt of the data is in work; `payload` is the serialised GeneratePrompt, its ids rendered once and for all."""

    step: int
    prompt: int
    first_sample: int
    samples: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The rollout service was asked for this attempt."""

    rollout: RolloutId


@dataclass(frozen=True, slots=True)
class RolloutClosed:
    """An attempt ended; `payload` is the serialised RolloutResult. The first one of a rollout counts."""

    rollout: RolloutId
    payload: bytes


@dataclass(frozen=True, slots=True)
class RolloutReleased:
    """Nothing of this rollout is needed again: a durable step holds it, or the learner gave it up."""

    rollout: RolloutId


@dataclass(frozen=True, slots=True)
class TaskOpened:
    """A score task for this attempt; `payload` is the serialised ScoreTask, so that it can be opened again as it was."""

    task_id: str
    rollout: RolloutId
    first_row: int  # where its want's window starts
    payload: bytes


@dataclass(frozen=True, slots=True)
class RowsReceived:
    """Rows start .. end - 1 of a task, read at `position` of its teacher's stream; `payload` is the serialised Envelope."""

    task_id: str
    teacher: str
    position: str
    start: int
    end: int
    finished: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class OutPosition:
    """Everything up to here of a teacher's stream has been dealt with."""

    teacher: str
    position: str


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """The learner expects no more rows of this task: it was cancelled, or failed for the reason given."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class BatchSent:
    """The batch of one step, written before it is sent: a repeat sends these bytes. `digest` is `names.batch_digest`."""

    run: str
    step: int
    digest: bytes
    objective: str
    rollouts: tuple[RolloutId, ...]
    micro_batches: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StepApplied:
    """The student answered that it applied this step."""

    step: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class StepDurable:
    """The student answered that this step survives its death: what fed it may be forgotten."""

    step: int


@dataclass(frozen=True, slots=True)
class RolloutDropped:
    """A closed attempt that does not count any more, because its weights are too old: the rollout is drawn again."""

    rollout: RolloutId


@dataclass(frozen=True, slots=True)
class RolloutSkipped:
    """A rollout that failed for good in drawing, scoring or grading: its step is trained without it."""

    rollout: RolloutId
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run ends with this step, which is applied, whatever its recipe says; `why` is an alarm or a plateau."""

    step: int
    why: str


JournalRecord = (
    PromptTaken
    | AttemptStarted
    | RolloutClosed
    | RolloutReleased
    | TaskOpened
    | RowsReceived
    | OutPosition
    | TaskEnded
    | BatchSent
    | StepApplied
    | StepDurable
    | RolloutDropped
    | RolloutSkipped
    | RunEnded
)

KINDS: dict[int, type[JournalRecord]] = {
    1: PromptTaken,
    2: AttemptStarted,
    3: RolloutClosed,
    4: RolloutReleased,
    5: TaskOpened,
    6: RowsReceived,
    7: OutPosition,
    8: TaskEnded,
    9: BatchSent,
    10: StepApplied,
    11: StepDurable,
    12: RolloutDropped,
    13: RolloutSkipped,
    14: RunEnded,
}
_KIND_OF = {kind: number for number, kind in KINDS.items()}


def to_entry(record: JournalRecord) -> Entry:
    """The journal entry of a record."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    for field in fields(record):
        value = getattr(record, field.name)
        match field.type:
            case "bytes":
                parts.append(value)
            case "tuple[bytes, ...]":
                header[field.name] = len(value)
                parts.extend(value)
            case kind:
                header[field.name] = _FIELDS[str(kind)][0](value)
    header["parts"] = [len(part) for part in parts]
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    return Entry(_KIND_OF[type(record)], b"".join((_LENGTH.pack(len(text)), text, *parts)))


def from_record(record: Record) -> JournalRecord:
    """The typed record; `Corrupt` with its number when this version cannot read it."""
    if record.kind not in KINDS:
        raise _unreadable(record, f"kind {record.kind} is unknown", "it was written by a newer version: use that one")
    try:
        return _build(KINDS[record.kind], record.payload)
    except (KeyError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise _unreadable(record, str(error), "") from error


def _build(kind: type[JournalRecord], payload: bytes) -> JournalRecord:
    (header_bytes,) = _LENGTH.unpack_from(payload)
    start = _LENGTH.size + header_bytes
    header = _header(payload[_LENGTH.size : start])
    parts = iter(_split(payload, start, header.pop("parts")))
    values: dict[str, Any] = {}
    for field in fields(kind):
        match field.type:
            case "bytes":
                values[field.name] = _taken(parts)
            case "tuple[bytes, ...]":
                values[field.name] = tuple(_taken(parts) for _ in range(header.pop(field.name)))
            case other:
                values[field.name] = _FIELDS[str(other)][1](header.pop(field.name))
    if header or next(parts, None) is not None:
        raise ValueError(f"{kind.__name__} has more than it should: {sorted(header)}")
    return kind(**values)


def _header(text: bytes) -> dict[str, Any]:
    header = json.loads(text)
    if not isinstance(header, dict):
        raise TypeError("its header is not an object")
    return cast("dict[str, Any]", header)


def _taken(parts: Iterator[bytes]) -> bytes:
    part = next(parts, None)
    if part is None:
        raise ValueError("a part is missing")
    return part


def _split(payload: bytes, start: int, lengths: list[int]) -> list[bytes]:
    if start + sum(lengths) != len(payload):
        raise ValueError(f"{len(payload) - start} bytes of parts, {sum(lengths)} are declared")
    parts: list[bytes] = []
    for length in lengths:
        parts.append(payload[start : start + length])
        start += length
    return parts


def _unreadable(record: Record, why: str, hint: str) -> Corrupt:
    return Corrupt(f"record {record.sequence} of the journal: {why}", field="journal", value=record.sequence, hint=hint)


def _exactly(kind: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def checked(value: Any) -> Any:
        if type(value) is not kind:
            raise InvalidArgument(f"expected {kind.__name__}", field="record", value=value, limit=kind.__name__)
        return value

    return checked, checked


def _rollouts_text(rollouts: tuple[RolloutId, ...]) -> list[str]:
    return [rollout_text(rollout) for rollout in rollouts]


def _rollouts_from_text(texts: list[str]) -> tuple[RolloutId, ...]:
    return tuple(rollout_from_text(text) for text in texts)


_FIELDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "int": _exactly(int),
    "str": _exactly(str),
    "bool": _exactly(bool),
    "RolloutId": (rollout_text, rollout_from_text),
    "tuple[RolloutId, ...]": (_rollouts_text, _rollouts_from_text),
}
