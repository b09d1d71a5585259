"""How a task ends badly on the server: a strike against it, and a dead letter after too many."""

from __future__ import annotations

import time

from preceptor.error_details import detail_of
from preceptor.errors import Corrupt, Fenced
from preceptor.logs import get_logger
from preceptor.queue.envelopes import letter_of
from preceptor.queue.keys import Flow
from preceptor.queue.redis.doors import Part, milliseconds, new_op
from preceptor.queue.types import Clock, TaskState
from preceptor_proto.v1 import common_pb2, teacher_pb2

log = get_logger(__name__)


class RedisEndings(Part):
    """What leasing, failing and reclaiming share."""

    letter_clock: Clock = time.time
    """What dates the letters. Nothing is decided by it."""

    async def _strike(
        self,
        flow: Flow,
        task: teacher_pb2.ScoreTask,
        fence: bytes,
        reason: common_pb2.ErrorDetail,
        *,
        death: bool,
        expired: bool = False,
        strikes: int | None = None,
    ) -> TaskState:
        limit = strikes or self._bounds.strikes
        letter, told = letter_of(task, reason, limit, milliseconds(self.letter_clock()))
        (state,) = await self._on_task(
            "strike_task",
            flow,
            task.task_id,
            fence=fence,
            op=new_op(),
            death=int(death),
            expired=int(expired),
            strikes=limit,
            letter=letter.SerializeToString(),
            told=told.SerializeToString(),
            reason=reason.SerializeToString(),
            kept_ms=self._kept_ms,
            letters_ms=milliseconds(self._bounds.dead_letters_s),
        )
        return TaskState(state.decode())

    async def _bury(self, flow: Flow, task_id: str, fence: bytes, error: Corrupt) -> None:
        """A task that nobody can read is a dead letter at once; what even the server cannot read is left to expire."""
        task = teacher_pb2.ScoreTask(task_id=task_id)
        try:
            await self._strike(flow, task, fence, detail_of(error), death=False, strikes=1)
        except (Corrupt, Fenced) as refused:
            log.warning("task_unreadable", task_id=task_id, error=refused.message)
