"""A ledger that settles as workers do, in the step that commits rows, so that the ledger's own suite holds for that step too.

Each settlement is the whole way of a task: created, leased, committed. Before its commit an old holder of the task tries the
same one and is fenced off; after it the commit is tried again. Neither may settle anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from preceptor.errors import Fenced
from preceptor.queue import Flow, Lease, Queue, Then
from preceptor.queue.quotas import Answer, Ledger, Move, Payment, QuotaLimits, Usage, Verb, Verdict
from preceptor.queue.types import FENCE_BYTES
from tests.contract.queue_rig import JOB, inline_task, lease_one, put, rows


@dataclass
class SettlesByCommits:
    """A `Ledger` over another one, and the queue that is kept where that one is."""

    ledger: Ledger
    queue: Queue
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def apply(self, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> tuple[Answer, ...]:
        answers: list[Answer] = []
        for move in moves:
            if move.verb is Verb.SETTLE and not move.owner:  # what its owner lets go is not committed
                answers.append(await self._commit(Flow(teacher, tenant, JOB), limits, move))
            else:
                answers += await self.ledger.apply(teacher, tenant, limits, [move])
        return tuple(answers)

    async def _commit(self, flow: Flow, limits: QuotaLimits, move: Move) -> Answer:
        """The verdict is read by renewing around it: a commit does not say whether the reservation still stood."""
        name = f"task-{next(self._numbers)}"
        await put(self.queue, inline_task(name), flow)
        lease = await lease_one(self.queue, flow=flow)
        await self._fenced_off(replace(lease, fence=bytes(FENCE_BYTES)), move)
        (before,) = await self.ledger.apply(flow.teacher, flow.tenant, limits, [Move(Verb.RENEW, move.effect)])
        await self.queue.commit(lease, [rows(0, [2, 3])], 0, Then.FINISH, payment=Payment(move))
        (after,) = await self.ledger.apply(flow.teacher, flow.tenant, limits, [Move(Verb.RENEW, move.effect)])
        assert after.verdict is Verdict.GONE
        await self._fenced_off(lease, replace(move, tokens=0))
        return before

    async def _fenced_off(self, lease: Lease, move: Move) -> None:
        with suppress(Fenced):
            await self.queue.commit(lease, [rows(0, [2, 3])], 0, Then.FINISH, payment=Payment(move))
            raise AssertionError("a lost lease has committed")

    async def add_usage(self, teacher: str, tenant: str, counts: Usage, op: bytes) -> None:
        await self.ledger.add_usage(teacher, tenant, counts, op)

    async def usage(self, teacher: str, tenant: str) -> Usage:
        return await self.ledger.usage(teacher, tenant)
