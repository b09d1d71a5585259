"""Steps on one response log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from preceptor.errors import Conflict, Gap
from preceptor.queue.keys import LogName
from preceptor.queue.scripts.declared import script
from preceptor.queue.space import Slot
from preceptor.queue.values import LogValue, SubscriberSet

ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Part:
    """One entry as a log compares it. A close has no ids and a finish reason."""

    offset: int
    kind: str
    plane: bytes
    payload: bytes
    finish_reason: int = 0

    @property
    def end(self) -> int:
        return self.offset + len(self.plane) // ID_BYTES


@script("ids", "subs")
def append_to_log(slot: Slot, log: LogName, part: Part, kept_s: float) -> tuple[int, tuple[str, ...]]:
    """The log's length afterwards, and its subscribers."""
    value = slot.ensure(log.ids, LogValue)
    if part.offset > value.length:
        raise _gap(part, value.length)
    if part.finish_reason:
        _close(value, part)
    elif part.offset < value.length:
        _compare(value, part)
    else:
        _extend(value, part)
    return value.length, _renewed(slot, log, kept_s)


@script("ids", "subs")
def read_log(slot: Slot, log: LogName, offset: int, kept_s: float) -> tuple[list[bytes], int, int]:
    """Entries from the one that holds `offset` on, the length, and the finish reason (0: open)."""
    value = slot.get(log.ids, LogValue)
    if value is None:
        return [], 0, 0
    _renewed(slot, log, kept_s)
    first = max(0, bisect_right(value.offsets, offset) - 1) if offset < value.length else len(value.offsets)
    return value.payloads[first:], value.length, value.finish_reason


@script("subs")
def subscribe(slot: Slot, log: LogName, subscriber: str, kept_s: float) -> None:
    """Add one task."""
    slot.ensure(log.subs, SubscriberSet).add(subscriber)
    slot.expire(log.subs, kept_s)


@script("subs")
def unsubscribe(slot: Slot, log: LogName, subscriber: str) -> None:
    """Remove one task."""
    subscribers = slot.get(log.subs, SubscriberSet)
    if subscribers is not None:
        subscribers.discard(subscriber)


def _extend(value: LogValue, part: Part) -> None:
    if value.finish_reason:
        raise Conflict("the log is closed", field="offset", value=part.offset, limit=value.length)
    value.offsets.append(part.offset)
    value.kinds.append(part.kind)
    value.planes.append(part.plane)
    value.payloads.append(part.payload)
    value.length = part.end


def _close(value: LogValue, part: Part) -> None:
    if part.offset < value.length:
        raise Conflict("a log is closed at its end", field="offset", value=part.offset, limit=value.length)
    if value.finish_reason not in {0, part.finish_reason}:
        raise Conflict(
            "the log was closed for another reason", field="finish_reason", value=part.finish_reason, limit=value.finish_reason
        )
    value.finish_reason = part.finish_reason


def _compare(value: LogValue, part: Part) -> None:
    """Returns for a duplicate. Only whole duplicates are ignored: an entry is never split."""
    for kind, offset, plane in _stored(value, part.offset, part.end):
        start = (offset - part.offset) * ID_BYTES
        if kind != part.kind or plane != part.plane[start : start + len(plane)]:
            raise Conflict("the log holds other tokens there", field="offset", value=part.offset, limit=value.length)
    if part.end > value.length:
        raise _gap(part, value.length)


def _stored(value: LogValue, start: int, end: int) -> Iterator[tuple[str, int, bytes]]:
    """What the log holds between two offsets: kind, offset and ids of each piece."""
    index = bisect_right(value.offsets, start) - 1
    while index < len(value.offsets) and value.offsets[index] < end:
        offset, plane = value.offsets[index], value.planes[index]
        first, last = max(start, offset), min(end, offset + len(plane) // ID_BYTES)
        yield value.kinds[index], first, plane[(first - offset) * ID_BYTES : (last - offset) * ID_BYTES]
        index += 1


def _renewed(slot: Slot, log: LogName, kept_s: float) -> tuple[str, ...]:
    slot.expire(log.ids, kept_s)
    slot.expire(log.subs, kept_s)
    return tuple(sorted(slot.get(log.subs, SubscriberSet) or ()))


def _gap(part: Part, length: int) -> Gap:
    return Gap(
        f"the log ends at {length}", field="offset", value=part.offset, limit=length, hint="append again from the log's length"
    )
