"""Steps on a job's dead letters."""

from __future__ import annotations

from preceptor.queue.keys import Flow
from preceptor.queue.scripts.declared import script
from preceptor.queue.scripts.tasks import Spec, make_ready, new_row
from preceptor.queue.space import Slot
from preceptor.queue.types import TaskState
from preceptor.queue.values import Position, StreamValue, TaskRow


@script("dead")
def read_letters(slot: Slot, flow: Flow, after: Position, limit: int) -> list[tuple[Position, bytes]]:
    """The oldest letters behind a position."""
    stream = slot.get(flow.dead, StreamValue)
    if stream is None:
        return []
    first = stream.behind(after)
    return stream.entries[first : first + limit]


@script("dead")
def delete_letter(slot: Slot, flow: Flow, position: Position) -> bool:
    """False when it was not there."""
    return _take(slot, flow, position)


@script("dead", "task", "ready", "flows")
def replay_letter(slot: Slot, flow: Flow, position: Position, spec: Spec, kept_s: float) -> TaskState | None:
    """The letter is gone and its task ready with a clean record; None when the letter was not there.

    A task that is no longer dead (somebody replayed it, or opened it anew) is left alone.
    """
    if not _take(slot, flow, position):
        return None
    row = slot.get(flow.task(spec.task_id), TaskRow)
    if row is None:
        row = new_row(spec, spec.first_row)
        row.state = TaskState.DEAD
        slot.put(flow.task(spec.task_id), row)
    if row.state is TaskState.DEAD:
        row.strikes, row.suspect, row.dirty, row.error = 0, False, True, b""
        make_ready(slot, flow, spec.task_id, row, kept_s)
    return row.state


def _take(slot: Slot, flow: Flow, position: Position) -> bool:
    stream = slot.get(flow.dead, StreamValue)
    index = stream.find(position) if stream is not None else None
    if stream is None or index is None:
        return False
    del stream.entries[index]
    return True
