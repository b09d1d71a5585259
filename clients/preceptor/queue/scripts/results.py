"""Steps on a job's results."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.queue.keys import Flow, flows_key
from preceptor.queue.scripts.declared import script
from preceptor.queue.scripts.tasks import touch_flow
from preceptor.queue.space import Slot
from preceptor.queue.types import QueueBounds
from preceptor.queue.values import FlowTable, Position, StreamValue


@script("out")
def read_results(slot: Slot, flow: Flow, after: Position, limit: int, kept_s: float) -> list[tuple[Position, bytes]]:
    """Entries behind a position."""
    stream = slot.get(flow.out, StreamValue)
    if stream is None:
        return []
    slot.expire(flow.out, kept_s)
    first = stream.behind(after)
    return stream.entries[first : first + limit]


@script("out", "blob", "flows")
def delete_results(slot: Slot, flow: Flow, upto: Position, blobs: Sequence[tuple[str, int]]) -> None:
    """Entries up to a position and blobs (key, bytes) are gone and no longer count as unread."""
    stream = slot.ensure(flow.out, StreamValue)
    count = stream.behind(upto)
    freed = sum(len(payload) for _, payload in stream.entries[:count]) + sum(payload_bytes for _, payload_bytes in blobs)
    del stream.entries[:count]
    for key, _ in blobs:
        slot.delete(key)
    row = touch_flow(slot, flow)
    row.unread_bytes = max(0, row.unread_bytes - freed)


@script("blob")
def read_blob_bytes(slot: Slot, key: str) -> bytes | None:
    """The bytes, if they are still there."""
    return slot.get(key, bytes)


def add_result(slot: Slot, flow: Flow, entry: bytes, blob_key: str, blob: bytes, bounds: QueueBounds) -> None:
    """One more entry, with its blob."""
    row = touch_flow(slot, flow)
    row.unread_bytes = unread_bytes(slot, flow) + len(entry) + len(blob)
    if blob_key:
        slot.put(blob_key, blob)
        slot.expire(blob_key, bounds.blob_s)
    slot.ensure(flow.out, StreamValue).add(entry, slot.now_ms)
    slot.expire(flow.out, bounds.kept_s)


def unread_bytes(slot: Slot, flow: Flow) -> int:
    """Bytes that wait for the learner. An empty stream has none, whatever was counted: a lost stream must not block its job."""
    stream = slot.get(flow.out, StreamValue)
    row = (slot.get(flows_key(flow.teacher), FlowTable) or FlowTable()).get((flow.tenant, flow.job))
    return row.unread_bytes if row is not None and stream is not None and stream.entries else 0
