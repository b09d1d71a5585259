"""Steps on a teacher's flows: where work waits, and the clocks by which it is shared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from preceptor.queue.keys import Flow, flows_key, leases_key
from preceptor.queue.ranks import BANDS, SPAN, range_start
from preceptor.queue.scripts.declared import script
from preceptor.queue.scripts.results import unread_bytes
from preceptor.queue.scripts.tasks import touch_flow
from preceptor.queue.space import Slot
from preceptor.queue.types import ClockCharge, FlowView, QueueBounds, ReadyBand
from preceptor.queue.values import FlowRow, FlowTable, LeaseSet, ReadySet, StreamValue


@script("flows", "ready", "out")
def ready_bands(slot: Slot, teacher: str, bounds: QueueBounds) -> tuple[ReadyBand, ...]:
    """Flows and bands with ready tasks, by name."""
    table = slot.get(flows_key(teacher), FlowTable) or FlowTable()
    flows = [Flow(teacher, tenant, job) for tenant, job in sorted(table)]
    return tuple(band for flow in flows for band in _bands(slot, flow, bounds))


@script("flows")
def advance_clocks(slot: Slot, teacher: str, charges: Sequence[ClockCharge]) -> list[float]:
    """The clocks after all charges of one batch."""
    slot.ensure(flows_key(teacher), FlowTable)
    return [touch_flow(slot, charge.flow).charge(charge) for charge in charges]


@script("flows", "ready", "out", "dead")
def forget_idle_flows(slot: Slot, teacher: str, bounds: QueueBounds) -> None:
    """Flows without work, results, letters or use for long are no longer listed; their clocks start at the floor again."""
    table = slot.get(flows_key(teacher), FlowTable) or FlowTable()
    before_ms = slot.now_ms - int(bounds.idle_flow_s * 1000)
    for tenant, job in [name for name, row in table.items() if row.touched_ms < before_ms]:
        flow = Flow(teacher, tenant, job)
        streams = [slot.get(key, StreamValue) for key in (flow.out, flow.dead)]
        if not slot.get(flow.ready, ReadySet) and not any(stream and stream.entries for stream in streams):
            del table[tenant, job]


@script("flows", "leases", "ready", "out", "dead")
def describe_flows(slot: Slot, teacher: str) -> tuple[FlowView, ...]:
    """All that are listed, by name."""
    table = slot.get(flows_key(teacher), FlowTable) or FlowTable()
    leased = Counter(tuple(member.split(":")[:2]) for member in slot.get(leases_key(teacher), LeaseSet) or ())
    return tuple(_view(slot, Flow(teacher, *name), row, leased[name]) for name, row in sorted(table.items()))


def _view(slot: Slot, flow: Flow, row: FlowRow, leased: int) -> FlowView:
    ready = slot.get(flow.ready, ReadySet) or ReadySet()
    out, dead = (slot.get(key, StreamValue) or StreamValue() for key in (flow.out, flow.dead))
    return FlowView(
        flow,
        ready=len(ready),
        suspects=ready.count(range_start(0, suspect=True), math.inf),
        leased=leased,
        unread_results=len(out.entries),
        unread_bytes=unread_bytes(slot, flow),
        dead_letters=len(dead.entries),
        clocks=dict(sorted(row.clocks.items())),
    )


def _bands(slot: Slot, flow: Flow, bounds: QueueBounds) -> Iterator[ReadyBand]:
    ready = slot.get(flow.ready, ReadySet)
    if not ready:
        return
    unread = unread_bytes(slot, flow)
    for band in range(BANDS):
        ordinary, suspects = (ready.count(start, start + SPAN) for start in _range_starts(band))
        if ordinary or suspects:
            yield ReadyBand(flow, band, ordinary, suspects, unread, unread > bounds.unread_bytes)


def _range_starts(band: int) -> tuple[float, float]:
    return range_start(band, suspect=False), range_start(band, suspect=True)
