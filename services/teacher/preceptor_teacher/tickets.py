"""One item on its way through a pool: what is to be scored, for whom, and the promise of a result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from preceptor.types import ModelRef
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.scheduler.types import Task, Work
from preceptor_teacher.growing import Growth

if TYPE_CHECKING:
    from preceptor_teacher.cache.lookup import Lookup


@dataclass(slots=True)
class Ticket:
    """`result` holds the engine's own result for the item, errors of the item included; an exception where no engine saw it.

    `retry_alone` says what happens when the engine dies under a batch: the item is tried once more, alone (doors), or the error
    is told at once, because somebody else keeps count (leased tasks). `lookup` names the score cache's entries for its rows.
    """

    task: Task
    item: teacher_pb2.ScoreItem
    version: ModelRef
    growth: Growth | None = None
    retry_alone: bool = True
    lookup: Lookup | None = None
    paid_tokens: int = 0  # of its sequence, by earlier chunks
    spent_tokens: int = 0  # what its tenant pays: the estimate from dispatch on, the truth once it is known
    result: asyncio.Future[teacher_pb2.ScoreResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def shares(self) -> Growth:
        """With whom the engine may share what was read: a sequence that is sent once, with its own job in the same batch."""
        flow = self.task.flow
        return self.growth or Growth(f"{flow.tenant}/{flow.job}", self.task.task_id, open=False, kept=False)

    def resolve(self, result: teacher_pb2.ScoreResult) -> None:
        if not self.result.done():
            self.result.set_result(result)

    def reject(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


def spent_on(result: teacher_pb2.ScoreResult) -> Work:
    """The true work behind a result: what was computed for the first time is charged, the rest is reported."""
    receipt = result.receipt
    again = min(receipt.tokens_recomputed, receipt.tokens_computed)
    return Work(receipt.tokens_computed - again, result.rows.count, again)
