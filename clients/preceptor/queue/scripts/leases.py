"""Steps of a worker: lease, renew, commit, give back, fail; and taking leases back from the dead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from preceptor.errors import Fenced, Gap, InvalidArgument
from preceptor.queue.envelopes import Packed
from preceptor.queue.keys import Flow, leases_key
from preceptor.queue.quotas import Payment
from preceptor.queue.ranks import SPAN, range_start
from preceptor.queue.scripts.declared import script
from preceptor.queue.scripts.quotas import count_usage, settle_hold
from preceptor.queue.scripts.results import add_result, unread_bytes
from preceptor.queue.scripts.tasks import end_lease, lease_member, make_ready
from preceptor.queue.space import Slot
from preceptor.queue.types import QueueBounds, TaskState, Then
from preceptor.queue.values import LeaseSet, ReadySet, StreamValue, TaskRow


@dataclass(frozen=True, slots=True)
class Held:
    """The caller's claim on a task."""

    flow: Flow
    task_id: str
    fence: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """What is written if this strike is the last: the letter, and the result that tells the learner."""

    letter: bytes
    told: bytes
    reason: bytes


@script("ready", "task", "leases", "flows", "out")
def lease_tasks(
    slot: Slot,
    flow: Flow,
    worker: str,
    band: int,
    fences: Sequence[bytes],
    *,
    alone: bool,
    latest: bytes,
    bounds: QueueBounds,
) -> list[tuple[str, TaskRow]]:
    """One task for each fence, as far as there are tasks; with `alone` one suspect."""
    if unread_bytes(slot, flow) > bounds.unread_bytes:
        return []
    ready = slot.ensure(flow.ready, ReadySet)
    start = range_start(band, suspect=alone)
    taken: list[tuple[str, TaskRow]] = []
    for fence in fences[:1] if alone else fences:
        found = _next_ready(slot, flow, ready, start)
        if found is None:
            break
        task_id, row = found
        row.state, row.dirty, row.alone, row.worker, row.fence = TaskState.LEASED, False, alone, worker, fence
        row.model, row.leased_row = row.model or latest, row.next_row
        _renew(slot, flow, task_id, row, bounds)
        taken.append((task_id, row))
    return taken


@script("task", "leases")
def renew_lease(slot: Slot, held: Held, bounds: QueueBounds) -> int:
    """When it ends now."""
    row = _held_row(slot, held)
    _renew(slot, held.flow, held.task_id, row, bounds)
    return row.expires_ms


@script("task", "ready", "leases", "flows", "out", "blob", "quota", "usage")
def commit_rows(
    slot: Slot, held: Held, packed: Sequence[Packed], scored_upto: int, then: Then, payment: Payment, bounds: QueueBounds
) -> TaskRow:
    """Rows into `out`, the position, the lease kept, released or finished, and what the rows cost."""
    row = _held_row(slot, held)
    fresh = list(_fresh(row, packed))
    if scored_upto < row.scored_upto:
        raise InvalidArgument("scored_upto went back", field="scored_upto", value=scored_upto, limit=row.scored_upto)
    for each in fresh:
        add_result(slot, held.flow, each.entry, each.blob_key, each.blob, bounds)
    row.next_row = max([row.next_row, *(each.end for each in packed)])
    row.scored_upto, row.suspect = scored_upto, False  # it got somewhere: whoever died, it was not for these rows
    if payment.settle is not None:
        settle_hold(slot, held.flow, payment.settle)
    if payment.counts:
        count_usage(slot, held.flow, payment.counts)
    if then is Then.KEEP:
        _renew(slot, held.flow, held.task_id, row, bounds)
        return row
    end_lease(slot, held.flow, held.task_id, row)
    row.alone, row.state = False, TaskState.FINISHED if then is Then.FINISH else TaskState.IDLE
    if row.state is TaskState.IDLE and row.dirty:
        make_ready(slot, held.flow, held.task_id, row, bounds.kept_s)
    slot.expire(held.flow.task(held.task_id), bounds.kept_s)
    return row


@script("task", "ready", "leases", "flows")
def return_lease(slot: Slot, held: Held, bounds: QueueBounds) -> None:
    """Ready again, as it was."""
    row = _held_row(slot, held)
    end_lease(slot, held.flow, held.task_id, row)
    make_ready(slot, held.flow, held.task_id, row, bounds.kept_s)


@script("task", "ready", "leases", "flows", "out", "dead", "blob")
def strike_task(slot: Slot, held: Held, ending: Ending, *, death: bool, bounds: QueueBounds) -> TaskRow:
    """A death makes a task suspect, and counts if it ran alone; anything else counts. Too many, and it is a dead letter."""
    row = _held_row(slot, held)
    flow, task_id = held.flow, held.task_id
    if not death or row.alone:
        row.strikes += 1
    row.suspect = row.suspect or death
    end_lease(slot, flow, task_id, row)
    if row.strikes < bounds.strikes:
        make_ready(slot, flow, task_id, row, bounds.kept_s)
        return row
    row.state, row.error, row.alone = TaskState.DEAD, ending.reason, False
    slot.ensure(flow.dead, StreamValue).add(ending.letter, slot.now_ms)
    slot.expire(flow.dead, bounds.dead_letters_s)
    slot.expire(flow.task(task_id), bounds.dead_letters_s)  # so that the letter can be replayed from where the task was
    add_result(slot, flow, ending.told, "", b"", bounds)
    return row


@script("leases")
def expired_leases(slot: Slot, teacher: str) -> list[str]:
    """Members whose time is over, and members of tasks that are gone."""
    leases = slot.get(leases_key(teacher), LeaseSet) or LeaseSet()
    return [
        member for member, expires_ms in sorted(leases.items(), key=lambda item: (item[1], item[0])) if expires_ms <= slot.now_ms
    ]


@script("task", "leases")
def expired_task(slot: Slot, flow: Flow, task_id: str) -> TaskRow | None:
    """The row of a lease that has run out; a member without such a task is removed."""
    row = slot.get(flow.task(task_id), TaskRow)
    if row is not None and row.state is TaskState.LEASED:
        return row if row.expires_ms <= slot.now_ms else None
    slot.ensure(leases_key(flow.teacher), LeaseSet).pop(lease_member(flow, task_id), None)
    return None


def _next_ready(slot: Slot, flow: Flow, ready: ReadySet, start: float) -> tuple[str, TaskRow] | None:
    while (task_id := ready.first(start, start + SPAN)) is not None:
        ready.remove(task_id)
        row = slot.get(flow.task(task_id), TaskRow)
        if row is not None and row.state is TaskState.READY:
            return task_id, row
    return None


def _held_row(slot: Slot, held: Held) -> TaskRow:
    row = slot.get(held.flow.task(held.task_id), TaskRow)
    if row is None or row.state is not TaskState.LEASED or row.fence != held.fence:
        state = "gone" if row is None else str(row.state)
        raise Fenced(f"the lease on {held.task_id} is lost", field="fence", value=state, hint="drop this work and lease again")
    return row


def _renew(slot: Slot, flow: Flow, task_id: str, row: TaskRow, bounds: QueueBounds) -> None:
    row.expires_ms = slot.now_ms + int(bounds.lease_s * 1000)
    slot.ensure(leases_key(flow.teacher), LeaseSet)[lease_member(flow, task_id)] = row.expires_ms
    slot.expire(flow.task(task_id), bounds.kept_s)


def _fresh(row: TaskRow, packed: Sequence[Packed]) -> Iterator[Packed]:
    """What is not in `out` yet. Rows that this lease has committed before are a repeat; they are whole or a mistake."""
    next_row = row.next_row
    for each in packed:
        if row.leased_row <= each.start < each.end <= next_row:
            continue
        if each.has_rows and each.start != next_row:
            raise Gap("these are not the task's next rows", field="rows.start", value=each.start, limit=next_row)
        yield each
        next_row = max(next_row, each.end)
