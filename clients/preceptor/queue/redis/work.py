"""Work on the server: where it waits, leases, commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from preceptor.errors import Corrupt, Fenced
from preceptor.queue import parts
from preceptor.queue.envelopes import Packed, left_s, pack, too_late
from preceptor.queue.keys import Flow, flows_key
from preceptor.queue.quotas import MAX_JOBS, OTHER_JOBS, USAGE_KEPT_S, WINDOW_S, Move, Payment, Verb
from preceptor.queue.ranks import BANDS, SPAN, range_start
from preceptor.queue.redis.doors import flow_field, milliseconds, new_op, score_text
from preceptor.queue.redis.endings import RedisEndings
from preceptor.queue.redis.link import Value
from preceptor.queue.redis.replies import fence_in, pairs, task_row
from preceptor.queue.stored import stored
from preceptor.queue.types import ClockCharge, Committed, Lease, ReadyBand, TaskState, Then
from preceptor.queue.values import TaskRow
from preceptor.types import ModelRef
from preceptor_proto.v1 import teacher_pb2

NOTHING_TO_SETTLE = Move(Verb.SETTLE, "")


class RedisWork(RedisEndings):
    """`preceptor.queue.protocol.Work`, but for what failures do (`failures.py`)."""

    async def ready_bands(self, teacher: str) -> tuple[ReadyBand, ...]:
        """See `Work.ready_bands`."""
        (found,) = await self._on_teacher("ready_bands", teacher, span=SPAN, bands=BANDS)
        bands: list[ReadyBand] = []
        for name, band, ready, suspects, unread_bytes in found:
            tenant, job = name.decode().split(":")
            over_bound = unread_bytes > self._bounds.unread_bytes
            bands.append(ReadyBand(Flow(teacher, tenant, job), band, ready, suspects, unread_bytes, over_bound))
        return tuple(sorted(bands, key=lambda each: (each.flow, each.band)))

    async def wait_ready(self, teacher: str, timeout_s: float) -> bool:
        """See `Work.wait_ready`."""

        async def some() -> bool | None:
            return any(not band.over_bound for band in await self.ready_bands(teacher)) or None

        return bool(await self._wakes.until(flows_key(teacher), some, timeout_s))

    async def lease(
        self,
        flow: Flow,
        worker: str,
        *,
        band: int = 0,
        limit: int = 1,
        alone: bool = False,
        latest: ModelRef | None = None,
    ) -> tuple[Lease, ...]:
        """See `Work.lease`."""
        low = range_start(band, suspect=alone)
        now_ms, *found = await self._on_flow(
            "lease_tasks",
            flow,
            worker=worker,
            alone=int(alone),
            latest=parts.model_bytes(latest),
            low=score_text(low),
            high=score_text(low + SPAN),
            unread_bound=self._bounds.unread_bytes,
            lease_ms=milliseconds(self._bounds.lease_s),
            kept_ms=self._kept_ms,
            items=[self._new_fence() for _ in range(min(limit, 1) if alone else limit)],
        )
        read = [await self._read_lease(flow, task_id, flat) for task_id, flat in pairs(found)]
        leases = [replace(lease, left_s=left_s(lease.task, now_ms)) for lease in read if lease is not None]
        return tuple([lease for lease in leases if not await self._ended_late(lease)])

    async def heartbeat(self, lease: Lease) -> Lease:
        """See `Work.heartbeat`."""
        (expires_ms,) = await self._on_task(
            "renew_lease",
            lease.flow,
            lease.task_id,
            fence=lease.fence,
            lease_ms=milliseconds(self._bounds.lease_s),
            kept_ms=self._kept_ms,
        )
        return replace(lease, expires_at_s=expires_ms / 1000)

    async def commit(
        self,
        lease: Lease,
        envelopes: Sequence[teacher_pb2.Envelope],
        scored_upto: int,
        then: Then = Then.RELEASE,
        *,
        payment: Payment | None = None,
    ) -> Committed:
        """See `Work.commit`."""
        packed = pack(lease, envelopes, then, self._bounds.inline_rows_bytes)
        state, next_row, expires_ms = await self._on_task(
            "commit_rows",
            lease.flow,
            lease.task_id,
            fence=lease.fence,
            op=new_op(),
            scored_upto=scored_upto,
            later=str(then),
            lease_ms=milliseconds(self._bounds.lease_s),
            kept_ms=self._kept_ms,
            blob_ms=milliseconds(self._bounds.blob_s),
            **_payment(payment or Payment()),
            items=list(_stored(packed)),
            more_keys=[each.blob_key for each in packed if each.blob_key],
        )
        next_row, kept = int(next_row), None
        if then is Then.KEEP:
            kept = replace(lease, scored_upto=scored_upto, next_row=next_row, expires_at_s=int(expires_ms) / 1000)
        return Committed(TaskState(state.decode()), next_row, kept)

    async def hand_back(self, lease: Lease) -> None:
        """See `Work.hand_back`."""
        await self._on_task("return_lease", lease.flow, lease.task_id, fence=lease.fence, op=new_op(), kept_ms=self._kept_ms)

    async def advance_clocks(self, teacher: str, charges: Sequence[ClockCharge]) -> Mapping[tuple[Flow, int], float]:
        """See `Work.advance_clocks`."""
        items = [value for charge in charges for value in _charge(charge)]
        (clocks,) = await self._on_teacher("advance_clocks", teacher, op=new_op(), items=items)
        return {(charge.flow, charge.band): float(clock) for charge, clock in zip(charges, clocks, strict=True)}

    async def _read_lease(self, flow: Flow, task_id: str, flat: Sequence[bytes | None]) -> Lease | None:
        """None for a task that is gone, and for one that cannot be read, which ends here: its neighbours are served."""
        try:
            row = task_row(flat)
            return None if row is None else _lease(flow, task_id, row)
        except Corrupt as error:
            await self._bury(flow, task_id, fence_in(flat), error)
            return None

    async def _ended_late(self, lease: Lease) -> bool:
        """True for a task whose deadline has passed: it ends here, uncomputed, and its learner is told."""
        if lease.left_s > 0:
            return False
        with suppress(Fenced):  # cancelled or opened anew since the lease
            await self.commit(lease, [too_late(lease.task)], lease.scored_upto, Then.FINISH)
        return True


def _lease(flow: Flow, task_id: str, row: TaskRow) -> Lease:
    return Lease(
        flow=flow,
        task_id=task_id,
        fence=row.fence,
        expires_at_s=row.expires_ms / 1000,
        task=stored(teacher_pb2.ScoreTask, row.spec, "task"),
        alone=row.alone,
        scored_upto=row.scored_upto,
        next_row=row.next_row,
        model=parts.pinned_model(row),
    )


def _stored(packed: Sequence[Packed]) -> Iterator[Value]:
    for each in packed:
        yield from (int(each.has_rows), each.start, each.end, each.entry, each.blob)


def _payment(payment: Payment) -> dict[str, Value]:
    settle = payment.settle or NOTHING_TO_SETTLE
    return {
        "effect": settle.effect,
        "spent_tokens": settle.tokens,
        "window_s": WINDOW_S,
        "counts": " ".join(f"{counter} {count}" for counter, count in payment.counts.items()),
        "max_jobs": MAX_JOBS,
        "other_jobs": OTHER_JOBS,
        "usage_ms": milliseconds(USAGE_KEPT_S),
    }


def _charge(charge: ClockCharge) -> tuple[Value, ...]:
    """Numbers as text that a double survives."""
    return (flow_field(charge.flow), charge.band, repr(charge.settled), repr(charge.floor), repr(charge.charged))
