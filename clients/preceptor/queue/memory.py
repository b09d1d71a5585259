"""The queue in this process: what `--inline` runs on, and the reference that other implementations are compared with.

Every mutating call runs one step of `preceptor.queue.scripts` on the keys that `preceptor.queue.keys` names, so it is atomic
here for the reason it is atomic there: nothing else runs in between. One event loop; nothing survives the process.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from preceptor.errors import NotFound
from preceptor.queue import parts
from preceptor.queue.bells import Bells
from preceptor.queue.envelopes import (
    Blame,
    blame_of,
    check_blob_key,
    left_s,
    letter_of,
    open_blob,
    pack,
    too_late,
    unpack,
)
from preceptor.queue.keys import Flow, LogName, teacher_of
from preceptor.queue.quotas import Payment
from preceptor.queue.scripts import flows, leases, letters, logs, results, tasks
from preceptor.queue.space import KeySpace, Slot
from preceptor.queue.types import (
    FENCE_BYTES,
    OUT_START,
    Appended,
    Clock,
    ClockCharge,
    Committed,
    DeadEntry,
    FlowView,
    Lease,
    LogView,
    OutEntry,
    QueueBounds,
    ReadyBand,
    Reclaimed,
    Subscriber,
    TaskInfo,
    TaskState,
    Then,
)
from preceptor.queue.values import TaskRow
from preceptor.types import ModelRef
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2


def random_fence() -> bytes:
    """128 bits that nobody else has."""
    return secrets.token_bytes(FENCE_BYTES)


class MemoryQueue:
    """A `Queue` without I/O."""

    def __init__(
        self,
        *,
        bounds: QueueBounds | None = None,
        clock: Clock = time.time,
        new_fence: Callable[[], bytes] = random_fence,
        space: KeySpace | None = None,
    ) -> None:
        self._bounds = bounds or QueueBounds()
        self._clock = clock
        self._new_fence = new_fence
        self._space = space or KeySpace()
        self._bells = Bells()

    async def close(self) -> None:
        """Waiting calls return what there is."""
        self._bells.ring_all()

    def lose(self, key: str) -> bool:
        """Forget one key, as a server does that was restored from an older file. For tests of what recovers from that."""
        return self._space.discard(key)

    # ------------------------------------------------------------ response logs

    async def append(self, log: LogName, entry: rollout_pb2.LogEntry) -> Appended:
        """See `ResponseLogs.append`."""
        length, subscribers = logs.append_to_log(self._slot(), log, parts.log_part(entry), self._bounds.kept_s)
        self._bells.ring(log.ids)
        return Appended(length, tuple(Subscriber.parse(text) for text in subscribers))

    async def read(self, log: LogName, offset: int = 0) -> LogView:
        """See `ResponseLogs.read`."""
        return self._view(log, offset)

    async def follow(self, log: LogName, offset: int, timeout_s: float) -> LogView:
        """See `ResponseLogs.follow`."""

        def grown() -> LogView | None:
            view = self._view(log, offset)
            return view if view.length > offset or view.closed else None

        return await self._bells.until(log.ids, grown, timeout_s) or self._view(log, offset)

    async def subscribe(self, log: LogName, subscriber: Subscriber) -> None:
        """See `ResponseLogs.subscribe`."""
        logs.subscribe(self._slot(), log, str(subscriber), self._bounds.kept_s)

    async def unsubscribe(self, log: LogName, subscriber: Subscriber) -> None:
        """See `ResponseLogs.unsubscribe`."""
        logs.unsubscribe(self._slot(), log, str(subscriber))

    # ------------------------------------------------------------ tasks

    async def create(self, flow: Flow, task: teacher_pb2.ScoreTask) -> bool:
        """See `Tasks.create`."""
        return tasks.create_task(self._slot(), flow, parts.task_spec(flow, task), self._bounds.kept_s)

    async def reopen(self, flow: Flow, task: teacher_pb2.ScoreTask, next_row: int) -> TaskState:
        """See `Tasks.reopen`."""
        spec = parts.task_spec(flow, task)
        state = tasks.reopen_task(self._slot(), flow, spec, next_row, self._bounds.kept_s)
        self._bells.ring(flow.teacher)
        return state

    async def poke(self, flow: Flow, task_id: str) -> TaskInfo | None:
        """See `Tasks.poke`."""
        row = tasks.poke_task(self._slot(), flow, task_id, self._bounds.kept_s)
        self._bells.ring(flow.teacher)
        return parts.task_info(row) if row is not None else None

    async def cancel(self, flow: Flow, task_id: str) -> TaskState | None:
        """See `Tasks.cancel`."""
        return tasks.cancel_task(self._slot(), flow, task_id, self._new_fence())

    async def task_info(self, flow: Flow, task_id: str) -> TaskInfo | None:
        """See `Tasks.task_info`."""
        row = tasks.read_task(self._slot(), flow, task_id)
        return parts.task_info(row) if row is not None else None

    # ------------------------------------------------------------ work

    async def ready_bands(self, teacher: str) -> tuple[ReadyBand, ...]:
        """See `Work.ready_bands`."""
        return flows.ready_bands(self._slot(), teacher, self._bounds)

    async def wait_ready(self, teacher: str, timeout_s: float) -> bool:
        """See `Work.wait_ready`."""

        def some() -> bool | None:
            return any(not band.over_bound for band in flows.ready_bands(self._slot(), teacher, self._bounds)) or None

        return bool(await self._bells.until(teacher, some, timeout_s))

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
        taken = leases.lease_tasks(
            self._slot(),
            flow,
            worker,
            band,
            [self._new_fence() for _ in range(limit)],
            alone=alone,
            latest=parts.model_bytes(latest),
            bounds=self._bounds,
        )
        held = [self._lease(flow, task_id, row) for task_id, row in taken]
        return tuple([lease for lease in held if not await self._ended_late(lease)])

    async def heartbeat(self, lease: Lease) -> Lease:
        """See `Work.heartbeat`."""
        expires_ms = leases.renew_lease(self._slot(), _held(lease), self._bounds)
        return _renewed(lease, expires_ms)

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
        row = leases.commit_rows(self._slot(), _held(lease), packed, scored_upto, then, payment or Payment(), self._bounds)
        self._bells.ring(lease.flow.out)
        self._bells.ring(lease.flow.teacher)
        kept = self._lease(lease.flow, lease.task_id, row) if then is Then.KEEP else None
        return Committed(row.state, row.next_row, kept)

    async def hand_back(self, lease: Lease) -> None:
        """See `Work.hand_back`."""
        leases.return_lease(self._slot(), _held(lease), self._bounds)
        self._bells.ring(lease.flow.teacher)

    async def fail(self, lease: Lease, error: common_pb2.ErrorDetail) -> TaskState:
        """See `Work.fail`."""
        blame = blame_of(error)
        if blame is Blame.NOTHING:
            await self.hand_back(lease)
            return TaskState.READY
        return self._strike(_held(lease), error, death=blame is Blame.DEATH)

    async def reclaim(self, teacher: str) -> tuple[Reclaimed, ...]:
        """See `Work.reclaim`."""
        taken: list[Reclaimed] = []
        for member in leases.expired_leases(self._slot(), teacher):
            tenant, job, task_id = member.split(":")
            flow = Flow(teacher, tenant, job)
            row = leases.expired_task(self._slot(), flow, task_id)
            if row is not None:
                worker, reason = row.worker, _death_of(row)
                state = self._strike(leases.Held(flow, task_id, row.fence), reason, death=True)
                taken.append(Reclaimed(flow, task_id, state, worker))
        flows.forget_idle_flows(self._slot(), teacher, self._bounds)
        return tuple(taken)

    async def advance_clocks(self, teacher: str, charges: Sequence[ClockCharge]) -> Mapping[tuple[Flow, int], float]:
        """See `Work.advance_clocks`."""
        clocks = flows.advance_clocks(self._slot(), teacher, charges)
        return {(charge.flow, charge.band): clock for charge, clock in zip(charges, clocks, strict=True)}

    # ------------------------------------------------------------ results

    async def read_out(
        self, flow: Flow, after: str = OUT_START, *, limit: int = 256, timeout_s: float = 0.0
    ) -> tuple[OutEntry, ...]:
        """See `Results.read_out`."""
        position = parts.parse_position(after)

        def arrived() -> list[tuple[tuple[int, int], bytes]] | None:
            return results.read_results(self._slot(), flow, position, limit, self._bounds.kept_s) or None

        found = await self._bells.until(flow.out, arrived, timeout_s)
        return tuple(OutEntry(parts.position_text(at), unpack(entry)) for at, entry in found or ())

    async def delete_out(self, flow: Flow, upto: str, blobs: Sequence[teacher_pb2.BlobRef] = ()) -> None:
        """See `Results.delete_out`."""
        named = [(check_blob_key(flow, blob.key), blob.payload_bytes) for blob in blobs]
        results.delete_results(self._slot(), flow, parts.parse_position(upto), named)
        self._bells.ring(flow.teacher)  # the job may be under its bound again

    async def read_blob(self, flow: Flow, blob: teacher_pb2.BlobRef) -> common_pb2.Rows | None:
        """See `Results.read_blob`."""
        return open_blob(blob, results.read_blob_bytes(self._slot(), check_blob_key(flow, blob.key)))

    # ------------------------------------------------------------ dead letters

    async def dead_letters(self, flow: Flow, *, limit: int = 100) -> tuple[DeadEntry, ...]:
        """See `DeadLetters.dead_letters`."""
        found = letters.read_letters(self._slot(), flow, (0, 0), limit)
        return tuple(DeadEntry(parts.position_text(at), teacher_pb2.DeadLetter.FromString(letter)) for at, letter in found)

    async def dead_letter(self, flow: Flow, letter_id: str) -> DeadEntry:
        """See `DeadLetters.dead_letter`."""
        position = parts.parse_position(letter_id)
        before = (position[0], position[1] - 1) if position[1] else (position[0] - 1, 1 << 63)
        for at, letter in letters.read_letters(self._slot(), flow, before, 1):
            if at == position:
                return DeadEntry(letter_id, teacher_pb2.DeadLetter.FromString(letter))
        raise _no_letter(letter_id)

    async def replay_dead_letter(self, flow: Flow, letter_id: str) -> TaskState:
        """See `DeadLetters.replay_dead_letter`."""
        spec = parts.task_spec(flow, (await self.dead_letter(flow, letter_id)).letter.task)
        state = letters.replay_letter(self._slot(), flow, parts.parse_position(letter_id), spec, self._bounds.kept_s)
        if state is None:
            raise _no_letter(letter_id)
        self._bells.ring(flow.teacher)
        return state

    async def drop_dead_letter(self, flow: Flow, letter_id: str) -> None:
        """See `DeadLetters.drop_dead_letter`."""
        if not letters.delete_letter(self._slot(), flow, parts.parse_position(letter_id)):
            raise _no_letter(letter_id)

    # ------------------------------------------------------------ overview

    async def teachers(self) -> tuple[str, ...]:
        """See `Overview.teachers`."""
        names = map(teacher_of, self._space.keys())
        return tuple(sorted(name for name in names if name is not None))

    async def describe_flows(self, teacher: str) -> tuple[FlowView, ...]:
        """See `Overview.describe_flows`."""
        return flows.describe_flows(self._slot(), teacher)

    # ------------------------------------------------------------ shared

    def _slot(self) -> Slot:
        return self._space.step(int(self._clock() * 1000))

    def _view(self, log: LogName, offset: int) -> LogView:
        payloads, length, finish_reason = logs.read_log(self._slot(), log, offset, self._bounds.kept_s)
        return LogView(tuple(rollout_pb2.LogEntry.FromString(payload) for payload in payloads), length, finish_reason)

    def _lease(self, flow: Flow, task_id: str, row: TaskRow) -> Lease:
        task = teacher_pb2.ScoreTask.FromString(row.spec)
        return Lease(
            flow=flow,
            task_id=task_id,
            fence=row.fence,
            expires_at_s=row.expires_ms / 1000,
            task=task,
            alone=row.alone,
            scored_upto=row.scored_upto,
            next_row=row.next_row,
            model=parts.pinned_model(row),
            left_s=left_s(task, int(self._clock() * 1000)),
        )

    async def _ended_late(self, lease: Lease) -> bool:
        """True for a task whose deadline has passed: it ends here, uncomputed, and its learner is told."""
        if lease.left_s > 0:
            return False
        await self.commit(lease, [too_late(lease.task)], lease.scored_upto, Then.FINISH)
        return True

    def _strike(self, held: leases.Held, reason: common_pb2.ErrorDetail, *, death: bool) -> TaskState:
        row = tasks.read_task(self._slot(), held.flow, held.task_id)
        task = teacher_pb2.ScoreTask.FromString(row.spec) if row is not None else teacher_pb2.ScoreTask()
        letter, told = letter_of(task, reason, self._bounds.strikes, int(self._clock() * 1000))
        ending = leases.Ending(letter.SerializeToString(), told.SerializeToString(), reason.SerializeToString())
        struck = leases.strike_task(self._slot(), held, ending, death=death, bounds=self._bounds)
        self._bells.ring(held.flow.out)
        self._bells.ring(held.flow.teacher)
        return struck.state


def _held(lease: Lease) -> leases.Held:
    return leases.Held(lease.flow, lease.task_id, lease.fence)


def _renewed(lease: Lease, expires_ms: int) -> Lease:
    return replace(lease, expires_at_s=expires_ms / 1000)


def _death_of(row: TaskRow) -> common_pb2.ErrorDetail:
    where = "while this task ran alone" if row.alone else "with this task among others"
    return common_pb2.ErrorDetail(
        code=common_pb2.ENGINE_FAILED, field="worker", value=row.worker, message=f"worker {row.worker} died {where}"
    )


def _no_letter(letter_id: str) -> NotFound:
    return NotFound(f"no dead letter {letter_id}", field="letter_id", value=letter_id, hint="preceptor dlq list")
