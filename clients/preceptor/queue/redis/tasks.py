"""Score tasks on the server, as their owner sees them."""

from __future__ import annotations

from preceptor.queue import parts
from preceptor.queue.keys import Flow
from preceptor.queue.redis.doors import Part, spec_args
from preceptor.queue.redis.replies import task_row
from preceptor.queue.types import TaskInfo, TaskState
from preceptor_proto.v1 import teacher_pb2


class RedisTasks(Part):
    """`preceptor.queue.protocol.Tasks`."""

    async def create(self, flow: Flow, task: teacher_pb2.ScoreTask) -> bool:
        """See `Tasks.create`."""
        spec = parts.task_spec(flow, task)
        args = spec_args(spec, first_row=spec.first_row, kept_ms=self._kept_ms)
        (created,) = await self._on_task("create_task", flow, spec.task_id, **args)
        return created == 1

    async def reopen(self, flow: Flow, task: teacher_pb2.ScoreTask, next_row: int) -> TaskState:
        """See `Tasks.reopen`."""
        spec = parts.task_spec(flow, task)
        args = spec_args(spec, next_row=next_row, kept_ms=self._kept_ms)
        (state,) = await self._on_task("reopen_task", flow, spec.task_id, **args)
        return TaskState(state.decode())

    async def poke(self, flow: Flow, task_id: str) -> TaskInfo | None:
        """See `Tasks.poke`."""
        (found,) = await self._on_task("poke_task", flow, task_id, kept_ms=self._kept_ms)
        row = task_row(found)
        return parts.task_info(row) if row is not None else None

    async def cancel(self, flow: Flow, task_id: str) -> TaskState | None:
        """See `Tasks.cancel`."""
        (state,) = await self._on_task("cancel_task", flow, task_id, fence=self._new_fence())
        return TaskState(state.decode()) if state else None

    async def task_info(self, flow: Flow, task_id: str) -> TaskInfo | None:
        """See `Tasks.task_info`."""
        keys = {"task": flow.task(task_id)}
        row = task_row((await self._link.run("read_task", keys, {}))[1])
        return parts.task_info(row) if row is not None else None
