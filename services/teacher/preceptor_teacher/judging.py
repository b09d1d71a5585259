"""A request to a teacher that grades, from whichever door: room in the tenant's quota, its turn, and verdicts."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.terms import Terms
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.clocks import ClockTable
from preceptor_serving.scheduler.types import FlowKey, QueueLimits
from preceptor_teacher.api import Payer
from preceptor_teacher.boundary import Bounds, check_count
from preceptor_teacher.grading import GradingTeacher
from preceptor_teacher.turns import Turns


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose request it is: the flow under the teacher's own name, the terms of its tenant, and when it must be answered."""

    flow: FlowKey
    terms: Terms
    deadline_s: float = math.inf  # on this process's clock
    effect: bytes | None = None  # names work that another worker may repeat, which then owns its reservation
    owner: str = ""


class Court:
    """One teacher that grades, and who waits for it."""

    def __init__(
        self,
        judge: GradingTeacher,
        accounts: Accounts,
        limits: QueueLimits,
        bounds: Bounds,
        clocks: ClockTable | None = None,
    ) -> None:
        self.judge, self.turns = judge, Turns(judge.texts_at_once, limits, clocks)
        self._accounts, self._bounds = accounts, bounds

    async def grade(self, request: teacher_pb2.GradeRequest, asker: Asker) -> list[teacher_pb2.GradeResult]:
        """One result for each item, in order; what is wrong with the whole request is raised."""
        check_count(len(request.items), self._bounds)
        async with self.session(asker, len(request.items)):
            return await self.judge.grade(request, Payer(asker.flow.tenant, asker.flow.job))

    @asynccontextmanager
    async def session(self, asker: Asker, texts: int) -> AsyncGenerator[None]:
        """So many places of the tenant's quota, and its turn. What it counts as is the caller's part."""
        hold = await self._accounts.reserve(
            asker.flow, asker.terms.limits, tokens=0, places=texts, effect=asker.effect, owner=asker.owner
        )
        try:
            async with self.turns.turn(asker.flow, texts, asker.terms.weight, asker.deadline_s):
                yield
        finally:
            await hold.settle(0)
