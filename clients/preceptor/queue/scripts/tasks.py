"""Steps on one task, by its owner; and the moves between states that other steps share."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.errors import Conflict
from preceptor.queue.keys import Flow, flows_key, leases_key
from preceptor.queue.ranks import SPAN, ready_score
from preceptor.queue.scripts.declared import script
from preceptor.queue.space import Slot
from preceptor.queue.types import ENDED, TaskState
from preceptor.queue.values import FlowRow, FlowTable, LeaseSet, ReadySet, TaskRow


@dataclass(frozen=True, slots=True)
class Spec:
    """A ScoreTask, and the fields of it that decide its order."""

    task_id: str
    payload: bytes
    band: int
    deadline_ms: int  # 0: none
    first_row: int
    model: bytes  # the exact weights it asks for; empty: the newest


@script("task", "flows")
def create_task(slot: Slot, flow: Flow, spec: Spec, kept_s: float) -> bool:
    """True when it was not there."""
    row = slot.get(flow.task(spec.task_id), TaskRow)
    if row is not None and row.spec != spec.payload:
        raise Conflict("the task was opened before with other content", field="task_id", value=spec.task_id)
    if row is None:
        slot.put(flow.task(spec.task_id), new_row(spec, spec.first_row))
    touch_flow(slot, flow)
    slot.expire(flow.task(spec.task_id), kept_s)
    return row is None


@script("task", "ready", "leases", "flows")
def reopen_task(slot: Slot, flow: Flow, spec: Spec, next_row: int, kept_s: float) -> TaskState:
    """Ready from `next_row`; cancelled and dead tasks stay what they are. Strikes and suspicion are kept."""
    old = slot.get(flow.task(spec.task_id), TaskRow)
    if old is not None and old.state in {TaskState.CANCELLED, TaskState.DEAD}:
        return old.state
    row = new_row(spec, next_row)
    if old is not None:
        end_lease(slot, flow, spec.task_id, old)
        row.suspect, row.strikes, row.model = old.suspect, old.strikes, spec.model or old.model
    slot.put(flow.task(spec.task_id), row)
    make_ready(slot, flow, spec.task_id, row, kept_s)
    return row.state


@script("task", "ready", "leases", "flows")
def poke_task(slot: Slot, flow: Flow, task_id: str, kept_s: float) -> TaskRow | None:
    """Dirty, and ready if it was idle. A ready set or leases that were lost are filled again by pokes."""
    row = slot.get(flow.task(task_id), TaskRow)
    if row is None or row.state in ENDED:
        return row
    row.dirty = True
    slot.expire(flow.task(task_id), kept_s)
    if row.state is TaskState.LEASED:
        slot.ensure(leases_key(flow.teacher), LeaseSet).setdefault(lease_member(flow, task_id), row.expires_ms)
    else:
        make_ready(slot, flow, task_id, row, kept_s)
    return row


@script("task", "ready", "leases")
def cancel_task(slot: Slot, flow: Flow, task_id: str, fence: bytes) -> TaskState | None:
    """A new fence that nobody holds, and the end."""
    row = slot.get(flow.task(task_id), TaskRow)
    if row is None:
        return None
    if row.state not in ENDED:
        end_lease(slot, flow, task_id, row)
        slot.ensure(flow.ready, ReadySet).remove(task_id)
        row.state, row.fence = TaskState.CANCELLED, fence
    return row.state


@script("task")
def read_task(slot: Slot, flow: Flow, task_id: str) -> TaskRow | None:
    """The hash, untouched."""
    return slot.get(flow.task(task_id), TaskRow)


# ---------------------------------------------------------------- moves


def make_ready(slot: Slot, flow: Flow, task_id: str, row: TaskRow, kept_s: float) -> None:
    """Into the ready set, without a lease."""
    row.state, row.fence, row.alone, row.worker, row.expires_ms = TaskState.READY, b"", False, "", 0
    score = ready_score(row.deadline_ms or SPAN - 1, row.band, suspect=row.suspect)
    slot.ensure(flow.ready, ReadySet).add(task_id, score)
    slot.expire(flow.task(task_id), kept_s)
    touch_flow(slot, flow)


def end_lease(slot: Slot, flow: Flow, task_id: str, row: TaskRow) -> None:
    """Whoever held it holds nothing."""
    slot.ensure(leases_key(flow.teacher), LeaseSet).pop(lease_member(flow, task_id), None)
    row.fence, row.expires_ms = b"", 0


def lease_member(flow: Flow, task_id: str) -> str:
    """A task's name in the leases of its teacher."""
    return f"{flow.tenant}:{flow.job}:{task_id}"


def touch_flow(slot: Slot, flow: Flow) -> FlowRow:
    """The flow's fields, marked as used now."""
    row = slot.ensure(flows_key(flow.teacher), FlowTable).setdefault((flow.tenant, flow.job), FlowRow())
    row.touched_ms = slot.now_ms
    return row


def new_row(spec: Spec, next_row: int) -> TaskRow:
    return TaskRow(
        spec=spec.payload,
        dirty=True,
        next_row=next_row,
        model=spec.model,
        band=spec.band,
        deadline_ms=spec.deadline_ms,
    )
