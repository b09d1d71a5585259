"""What failures of tasks and deaths of workers do on the server."""

from __future__ import annotations

from preceptor.errors import Corrupt, Fenced, InvalidArgument
from preceptor.logs import get_logger
from preceptor.queue.envelopes import Blame, blame_of
from preceptor.queue.keys import Flow
from preceptor.queue.redis.doors import milliseconds
from preceptor.queue.redis.replies import task_row
from preceptor.queue.redis.work import RedisWork
from preceptor.queue.stored import stored
from preceptor.queue.types import Lease, Reclaimed, TaskState
from preceptor.queue.values import TaskRow
from preceptor_proto.v1 import common_pb2, teacher_pb2

log = get_logger(__name__)
RECLAIM_LIMIT = 256
"""Leases taken back by one call; the next call takes the rest."""


class RedisFailures(RedisWork):
    """The rest of `preceptor.queue.protocol.Work`."""

    async def fail(self, lease: Lease, error: common_pb2.ErrorDetail) -> TaskState:
        """See `Work.fail`."""
        blame = blame_of(error)
        if blame is Blame.NOTHING:
            await self.hand_back(lease)
            return TaskState.READY
        return await self._strike(lease.flow, lease.task, lease.fence, error, death=blame is Blame.DEATH)

    async def reclaim(self, teacher: str) -> tuple[Reclaimed, ...]:
        """See `Work.reclaim`."""
        lease_ms = milliseconds(self._bounds.lease_s)
        await self._on_teacher("shorten_leases", teacher, lease_ms=lease_ms, limit=RECLAIM_LIMIT)
        (members,) = await self._on_teacher("expired_leases", teacher, limit=RECLAIM_LIMIT)
        taken = [await self._reclaimed(teacher, member.decode()) for member in members]
        await self._on_teacher("forget_idle_flows", teacher, idle_ms=milliseconds(self._bounds.idle_flow_s))
        return tuple(each for each in taken if each is not None)

    async def _reclaimed(self, teacher: str, member: str) -> Reclaimed | None:
        """None also where the task cannot be read: one that somebody broke must not keep the others."""
        try:
            return await self._reclaim_one(teacher, member)
        except (Corrupt, InvalidArgument) as error:
            log.warning("lease_unreadable", member=member, error=error.message)
            return None

    async def _reclaim_one(self, teacher: str, member: str) -> Reclaimed | None:
        tenant, job, task_id = member.split(":")
        flow = Flow(teacher, tenant, job)
        (found,) = await self._on_task("expired_task", flow, task_id)
        row = task_row(found)
        if row is None:
            return None
        try:
            task = stored(teacher_pb2.ScoreTask, row.spec, "task")
        except Corrupt as error:
            await self._bury(flow, task_id, row.fence, error)
            return None
        try:
            state = await self._strike(flow, task, row.fence, _death_of(row), death=True, expired=True)
        except Fenced:  # its holder was only slow, or somebody else took it back first
            return None
        return Reclaimed(flow, task_id, state, row.worker)


def _death_of(row: TaskRow) -> common_pb2.ErrorDetail:
    where = "while this task ran alone" if row.alone else "with this task among others"
    message = f"worker {row.worker} died {where}"
    return common_pb2.ErrorDetail(code=common_pb2.ENGINE_FAILED, field="worker", value=row.worker, message=message)
