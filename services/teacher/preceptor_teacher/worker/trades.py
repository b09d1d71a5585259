"""What a worker does with the tasks that it leases: it scores with an engine, or it grades as a judge does."""

from __future__ import annotations

from typing import Protocol

from preceptor.queue import Lease
from preceptor.types import ModelRef
from preceptor_serving.scheduler.types import FlowKey
from preceptor_teacher.judging import Court
from preceptor_teacher.pool import EnginePool
from preceptor_teacher.worker.grades import GradeLease
from preceptor_teacher.worker.holdings import Held
from preceptor_teacher.worker.lease import ScoreLease
from preceptor_teacher.worker.tending import Bench, LeasedTask


class Trade(Protocol):
    """One teacher, as its worker sees it."""

    @property
    def latest(self) -> ModelRef:
        """What a task that asks for the newest weights is pinned to."""
        ...

    @property
    def batch(self) -> int:
        """What keeps it busy: tokens of a scorer, texts of a judge."""
        ...

    def start_tag(self, flow: FlowKey) -> float:
        """Where the flow's next task would stand in its band: the lowest is leased first."""
        ...

    def take(self, bench: Bench, lease: Lease, held: Held) -> LeasedTask:
        """The work of a lease, not begun."""
        ...


class Scoring:
    """The trade of a teacher with an engine."""

    def __init__(self, pool: EnginePool) -> None:
        self.pool = pool

    @property
    def latest(self) -> ModelRef:
        """See `Trade.latest`."""
        return self.pool.info.model

    @property
    def batch(self) -> int:
        """See `Trade.batch`."""
        return self.pool.policy.batch_tokens

    def start_tag(self, flow: FlowKey) -> float:
        """See `Trade.start_tag`."""
        return self.pool.scheduler.start_tag(flow)

    def take(self, bench: Bench, lease: Lease, held: Held) -> LeasedTask:
        """See `Trade.take`."""
        return ScoreLease(bench, lease, held, pool=self.pool)


class Grading:
    """The trade of a teacher that grades."""

    def __init__(self, court: Court) -> None:
        self._court = court

    @property
    def latest(self) -> ModelRef:
        """See `Trade.latest`."""
        return self._court.judge.info.model

    @property
    def batch(self) -> int:
        """See `Trade.batch`."""
        return self._court.turns.texts

    def start_tag(self, flow: FlowKey) -> float:
        """See `Trade.start_tag`."""
        return self._court.turns.start_tag(flow)

    def take(self, bench: Bench, lease: Lease, held: Held) -> LeasedTask:
        """See `Trade.take`."""
        return GradeLease(bench, lease, held, court=self._court)
