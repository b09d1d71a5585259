"""How this teacher service stands, for `Status`, `/v1/status` and `/metrics`.

The durable door is looked at every few seconds, however many ask; while its server is away, the last answer stands and
readiness says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from preceptor.errors import PreceptorError
from preceptor.queue import FlowView, Queue
from preceptor.types import BudgetStatus, EngineStatus, FlowStatus, QueueStatus, ServiceState, TeacherStatus
from preceptor_serving.auth.identity import SEES_ALL, Identity
from preceptor_serving.lifecycle.state import State
from preceptor_serving.scheduler.estimate import FlowStanding
from preceptor_serving.scheduler.types import FlowKey
from preceptor_serving.service import ServiceContext
from preceptor_teacher.budgets import budgets_of
from preceptor_teacher.grading import GradingTeacher
from preceptor_teacher.pool import EnginePool
from preceptor_teacher.standings import Standings, by_engine

FRESH_S = 2.0
LOOK_S = 3.0  # for one look at the durable door
LOOK_EVERY_S = 5.0  # for those who scrape

STATES = {
    State.LOADING: ServiceState.LOADING,
    State.READY: ServiceState.READY,
    State.DEGRADED: ServiceState.DEGRADED,
    State.DRAINING: ServiceState.DRAINING,
    State.STOPPED: ServiceState.DRAINING,
}


class StatusDesk:
    """Reads what the parts tell of themselves. `pools` and `judges` are live: teachers appear as they are loaded."""

    def __init__(
        self,
        pools: Mapping[str, EnginePool],
        names: Callable[[], Iterable[str]],
        worker: str,
        context: ServiceContext,
        queue: Queue | None,
        standings: Standings,
        judges: Sequence[GradingTeacher],
    ) -> None:
        self._pools = pools
        self._standings, self._judges = standings, judges
        self._names = names
        self._worker = worker
        self._lifecycle = context.lifecycle
        self._meters = context.meters
        self._queue = queue
        self.queues: tuple[QueueStatus, ...] = ()  # as of the last look
        self._looked_s = float("-inf")
        self._looking = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Looks at the durable door from time to time."""
        if self._queue is not None:
            self._loop = asyncio.create_task(self._look_on(), name="status-look")

    async def close(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})

    async def status(self) -> TeacherStatus:
        """All of it, what lies at the durable door a moment old at most while its server answers."""
        await self._look()
        now = self._lifecycle.status()
        return TeacherStatus(
            state=STATES[now.state],
            worker=self._worker,
            teachers=tuple(info for pool in self._pools.values() for info in pool.infos),
            engines=tuple(self.engines()),
            flows=tuple(self.flows()),
            queues=self.queues,
            reasons=now.reasons,
            standings=tuple(self._standings),
            budgets=tuple(await budgets_of(self._judges)),
        )

    def engines(self) -> Iterator[EngineStatus]:
        """One for each teacher of this process. An engine without a process of its own is up as long as this one is."""
        up, restarts = by_engine(self._meters.engine_up), by_engine(self._meters.engine_restarts)
        for name, pool in self._pools.items():
            yield EngineStatus(
                teacher=name,
                up=up.get(name, 1.0) == 1.0,
                restarts=int(restarts.get(name, 0.0)),
                waiting_tasks=pool.scheduler.waiting_tasks,
                running_tasks=pool.scheduler.running_tasks,
                tokens_computed=pool.tokens_computed,
                tokens_reused=pool.tokens_reused,
                cache_hits=pool.cache_hits,
                cache_misses=pool.cache_misses,
                cost_per_s=pool.scheduler.cost_per_s,
            )

    def flows(self) -> Iterator[FlowStatus]:
        """Every flow with work here, or that was served lately."""
        for pool in self._pools.values():
            standings = pool.standings()
            for flow in sorted(standings.keys() | pool.served.keys()):
                yield _flow_status(flow, standings.get(flow), pool.served.get(flow, 0))

    async def _look_on(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        """One look for everybody who asks at the same time."""
        if self._queue is None:
            return
        async with self._looking:
            loop = asyncio.get_running_loop()
            if loop.time() - self._looked_s < FRESH_S:
                return
            with suppress(TimeoutError, PreceptorError):
                async with asyncio.timeout(LOOK_S):
                    found = [view for name in self._names() for view in await self._queue.describe_flows(name)]
                self.queues = tuple(map(_queue_status, found))
            self._looked_s = loop.time()


def visible_to(identity: Identity, status: TeacherStatus) -> TeacherStatus:
    """What this caller may see: its own tenant's jobs, or all of them with the scope metrics or admin."""
    if identity.scopes & SEES_ALL:
        return status

    def own(one: FlowStatus | QueueStatus | BudgetStatus) -> bool:
        return one.tenant == identity.tenant and identity.job in (None, one.job)

    flows, queues, budgets = filter(own, status.flows), filter(own, status.queues), filter(own, status.budgets)
    return replace(status, flows=tuple(flows), queues=tuple(queues), budgets=tuple(budgets))


def _flow_status(flow: FlowKey, standing: FlowStanding | None, served_tokens: int) -> FlowStatus:
    load = standing.load if standing else None
    return FlowStatus(
        teacher=flow.teacher,
        tenant=flow.tenant,
        job=flow.job,
        band=flow.band,
        weight=load.weight if load else 0.0,
        queued_tasks=load.tasks if load else 0,
        queued_cost=load.cost if load else 0.0,
        virtual_time=load.start if load else 0.0,
        oldest_wait_s=standing.oldest_wait_s if standing else 0.0,
        served_tokens=served_tokens,
        eta_s=standing.eta_s if standing else None,
    )


def _queue_status(view: FlowView) -> QueueStatus:
    return QueueStatus(
        teacher=view.flow.teacher,
        tenant=view.flow.tenant,
        job=view.flow.job,
        ready_tasks=view.ready,
        suspect_tasks=view.suspects,
        leased_tasks=view.leased,
        unread_results=view.unread_results,
        unread_bytes=view.unread_bytes,
        dead_letters=view.dead_letters,
    )
