"""One teacher's engine and the one queue before it: every door and the queue worker submit here, fair batches go out.

submit ──▶ Scheduler ──▶ dispatch loop ──▶ engine call (two in flight: one computes, one is read shortly before that ends)
                            │ died: items run again alone, or their owner is told
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preceptor import wire
from preceptor.errors import (
    Cancelled,
    Corrupt,
    DeadlineExceeded,
    EngineFailed,
    Internal,
    NotFound,
    PreceptorError,
    Unavailable,
    VersionGone,
)
from preceptor.logs import get_logger
from preceptor.types import ModelInfo, ModelRef
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.engine_host.methods import SCORE
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engine_host.scoring import ScoringClient
from preceptor_serving.scheduler.clocks import ClockTable
from preceptor_serving.scheduler.cost import CostRule
from preceptor_serving.scheduler.estimate import FlowStanding
from preceptor_serving.scheduler.pace import Pace
from preceptor_serving.scheduler.scheduler import Scheduler
from preceptor_serving.scheduler.types import Batch, DropReason, FlowKey, QueueLimits, Work
from preceptor_teacher import growing
from preceptor_teacher.cache import CacheFront
from preceptor_teacher.tickets import Ticket, spent_on
from preceptor_teacher.versions import Versions

KEPT_FLOWS = 1024
NOTHING_SPENT = Work(new_tokens=0, rows=0)
log = get_logger("preceptor.pool")


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """Sizes of what is sent to an engine."""

    batch_tokens: int = 8192
    batch_tasks: int = 64
    calls_in_flight: int = 2  # the second is read while the first is computed
    look_ahead_s: float = 0.02  # before the expected end of the first; what is sent is out of fair order's reach
    call_timeout_s: float = HostPolicy().turn_limit_s


class EnginePool:
    """Starts and stops with its service. `submit` never blocks; a ticket ends exactly once."""

    def __init__(
        self,
        channel: EngineChannel,
        policy: PoolPolicy,
        limits: QueueLimits,
        cache: CacheFront | None = None,
        clocks: ClockTable | None = None,
        roots: Sequence[Path] = (),
    ) -> None:
        self.channel = channel
        self.policy = policy
        self._limits = limits
        self._cache = cache
        self._clocks = clocks
        self.versions = Versions(ScoringClient(channel), tuple(roots))
        self._tickets: dict[str, Ticket] = {}
        self._calls: dict[asyncio.Task[bool], int] = {}
        self._pace = Pace(policy.calls_in_flight, policy.look_ahead_s)
        self._call_numbers = itertools.count()
        self._work = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._stopped = False
        self.tokens_computed = 0
        self.tokens_reused = 0
        self.cache_hits = 0
        self.cache_misses = 0
        self.served: dict[FlowKey, int] = {}  # tokens charged, of the flows that were served last

    @property
    def infos(self) -> tuple[ModelInfo, ...]:
        """The operator's newest version first; those that runs published last."""
        return self.versions.infos

    @property
    def info(self) -> ModelInfo:
        """What answers for `latest`."""
        return self.infos[0]

    async def start(self) -> None:
        """Returns when the engine is loaded and work is taken."""
        await self.channel.start()
        await self.versions.start()
        self.scheduler = self._empty_scheduler()
        self._loop_task = asyncio.create_task(self._dispatch(), name="pool-dispatch")

    async def stop(self) -> None:
        """Ends what is waiting with `Unavailable`, and the engine."""
        self._stopped = True
        if self._loop_task is not None:
            await _cancelled(self._loop_task)
        await self._end_calls()
        self._end_tickets(Unavailable("the teacher is stopping"))
        await self.channel.stop()

    async def look_up(self, tickets: Sequence[Ticket]) -> None:
        """Resolves those whose rows the score cache knows; only the others need to be submitted."""
        if self._cache is None:
            return
        await self._cache.look_up(tickets, self.infos)
        hits = sum(ticket.result.done() for ticket in tickets)
        self.cache_hits += hits
        self.cache_misses += len(tickets) - hits

    def submit(self, ticket: Ticket) -> None:
        """Queues one item, or raises `Exhausted` with its place and the time after which room is expected."""
        if self._stopped:
            raise Unavailable("the teacher is stopping")
        if self._cache is not None and self._cache.follow(ticket):
            return
        self.scheduler.submit(ticket.task, self._now_s())
        self._tickets[ticket.task.task_id] = ticket
        if self._cache is not None:
            self._cache.lead(ticket)
        self._work.set()

    def cancel(self, task_ids: Sequence[str]) -> None:
        """Nobody waits for these any more; what is on the engine is finished and thrown away."""
        for task_id in task_ids:
            if task_id in self._tickets:
                self.scheduler.cancel(task_id, self._now_s())
        self._take_dropped()

    def standings(self) -> dict[FlowKey, FlowStanding]:
        """Every flow with work waiting, as it stands now."""
        return self.scheduler.standings(self._now_s())

    def waiting(self, flow: FlowKey) -> int:
        """Tasks of a flow that wait here."""
        load = self.scheduler.loads().get(flow)
        return load.tasks if load else 0

    # ---- the loop

    async def _dispatch(self) -> None:
        pause_s: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._work.wait()
            self._work.clear()
            try:
                pause_s = await self._send_batches()
            except Exception as error:  # a defect of ours: what the scheduler holds now is anybody's guess
                log.error("pool_defect", exc_info=error)
                await self._end_calls()
                self.scheduler = self._empty_scheduler()  # what came while the calls ended stood in the old one, and ends too
                self._end_tickets(_unforeseen())

    async def _send_batches(self) -> float | None:
        """As many as the engine should have now. How long until it should have the next; None: until something happens."""
        while (pause_s := self._pace.pause_s(self._now_s())) == 0.0:
            batch = self.scheduler.next_batch(
                self._now_s(), budget_tokens=self.policy.batch_tokens, max_tasks=self.policy.batch_tasks
            )
            self._take_dropped()
            if not batch:
                return None
            if batch.tasks[0].suspect:
                await self._run_alone(batch)
            else:
                self._begin(batch)
        return pause_s

    def _empty_scheduler(self) -> Scheduler:
        return Scheduler(CostRule(self.info.capabilities.row_cost), clocks=self._clocks, limits=self._limits)

    def _begin(self, batch: Batch) -> None:
        call = asyncio.create_task(self._run(batch), name="pool-call")
        self._calls[call] = next(self._call_numbers)
        self._pace.begun(self._calls[call], batch.batch_tokens, self._now_s())
        call.add_done_callback(self._call_ended)

    async def _run_alone(self, batch: Batch) -> None:
        """Nothing else is on the engine, so that its death is this task's doing."""
        if self._calls:
            await asyncio.wait(self._calls)
        self._begin(batch)
        await asyncio.wait(self._calls)

    def _call_ended(self, call: asyncio.Task[bool]) -> None:
        computed = not call.cancelled() and call.exception() is None and call.result()
        self._pace.ended(self._calls.pop(call), self._now_s(), finished=computed)
        self._work.set()
        if not call.cancelled() and (error := call.exception()):
            log.error("pool_defect", exc_info=error)

    async def _run(self, batch: Batch) -> bool:
        """One engine call for each version in the batch; whether all of it was computed."""
        by_version: dict[ModelRef, list[Ticket]] = {}
        for task in batch.tasks:
            ticket = self._tickets.get(task.task_id)
            if ticket is None:  # a defect of ours: its neighbours must not pay for it
                log.error("pool_defect", task_id=task.task_id, hint="the scheduler held a task without a ticket")
                self.scheduler.finish(task.task_id, self._now_s(), NOTHING_SPENT)
                continue
            ticket.spent_tokens = task.work.new_tokens
            by_version.setdefault(ticket.version, []).append(ticket)
        computed = bool(by_version)
        for version, tickets in by_version.items():
            try:
                computed &= await self._run_version(version, tickets, alone=batch.tasks[0].suspect)
            except Exception as error:  # a defect of ours: nobody must wait for ever because of it
                log.error("pool_defect", exc_info=error)
                self._give_up(tickets)
                computed = False
        return computed

    async def _run_version(self, version: ModelRef, tickets: Sequence[Ticket], *, alone: bool) -> bool:
        try:
            results = await self._call_under(version, tickets)
        except EngineFailed as error:
            self._died(tickets, error, alone=alone)
        except PreceptorError as error:
            self._refuse(tickets, error)
        else:
            self._settle(tickets, results)
            return True
        return False

    async def _call_under(self, version: ModelRef, tickets: Sequence[Ticket]) -> Sequence[teacher_pb2.ScoreResult]:
        """An engine that was restarted holds what the operator serves alone: the version is loaded once more."""
        try:
            async with self.versions.used(version):
                return await self._call(version, tickets)
        except VersionGone:
            self.versions.lost(version)
        async with self.versions.used(version):
            return await self._call(version, tickets)

    async def _call(self, version: ModelRef, tickets: Sequence[Ticket]) -> Sequence[teacher_pb2.ScoreResult]:
        request = teacher_pb2.ScoreRequest(
            teacher=wire.choice_to_proto(version.name, version), items=[ticket.item for ticket in tickets]
        )
        timeout_s = self.policy.call_timeout_s
        if self.info.capabilities.streaming:
            payload = growing.to_bytes(request, [ticket.shares for ticket in tickets])
            reply = await self.channel.call(growing.SCORE_GROWING, payload, timeout_s=timeout_s)
        else:
            reply = await self.channel.call(SCORE, request.SerializeToString(), timeout_s=timeout_s)
        results = teacher_pb2.ScoreReply.FromString(reply).results
        if len(results) != len(tickets):
            raise Corrupt("the engine answered another number of items", field="results", value=len(results), limit=len(tickets))
        return results

    # ---- how tickets end

    def _settle(self, tickets: Sequence[Ticket], results: Sequence[teacher_pb2.ScoreResult]) -> None:
        for ticket, result in zip(tickets, results, strict=True):
            spent = spent_on(result)
            ticket.spent_tokens = spent.new_tokens
            settled = self.scheduler.finish(ticket.task.task_id, self._now_s(), spent)
            result.receipt.time.queued_s = settled.queued_s
            self._count_served(ticket.task.flow, spent.new_tokens)
            self.tokens_computed += result.receipt.tokens_computed
            self.tokens_reused += result.receipt.tokens_reused
            if self._cache is not None:
                self._cache.keep(ticket, result)
            self._end(ticket).resolve(result)

    def _count_served(self, flow: FlowKey, tokens: int) -> None:
        """The flow served last stands last; names are the callers', so only so many are kept."""
        self.served[flow] = self.served.pop(flow, 0) + tokens
        if len(self.served) > KEPT_FLOWS:
            del self.served[next(iter(self.served))]

    def _refuse(self, tickets: Sequence[Ticket], error: Exception) -> None:
        for ticket in tickets:
            ticket.spent_tokens = 0
            self.scheduler.finish(ticket.task.task_id, self._now_s(), NOTHING_SPENT)
            self._end(ticket).reject(error)

    def _died(self, tickets: Sequence[Ticket], error: EngineFailed, *, alone: bool) -> None:
        """An item that ran alone is what the engine dies of; before that it is suspect, and is tried alone."""
        again = [ticket for ticket in tickets if ticket.retry_alone and not alone]
        for ticket in again:
            ticket.spent_tokens = 0
            ticket.task = replace(ticket.task, suspect=True)
        self.scheduler.requeue([ticket.task.task_id for ticket in again], self._now_s(), suspect=True)
        told = [ticket for ticket in tickets if not ticket.retry_alone or alone]
        for ticket in told:
            self._share_death(ticket, error, alone=alone)
        self._refuse(told, error)
        self._take_dropped()
        self._work.set()

    def _share_death(self, ticket: Ticket, error: EngineFailed, *, alone: bool) -> None:
        """Who waited for the same would kill the engine as well: it ends as if it had been in that call itself."""
        for follower in self._cache.leave(ticket) if self._cache is not None else ():
            if alone or not follower.retry_alone:
                follower.reject(error)
            else:
                follower.task = replace(follower.task, suspect=True)
                self._submit_again(follower)

    def _give_up(self, tickets: Sequence[Ticket]) -> None:
        """Ends those of a call that have not ended, whatever has happened to it."""
        for ticket in tickets:
            if ticket.task.task_id in self._tickets:
                with suppress(NotFound):
                    self.scheduler.finish(ticket.task.task_id, self._now_s(), NOTHING_SPENT)
                self._end(ticket).reject(_unforeseen())

    async def _end_calls(self) -> None:
        for call in list(self._calls):
            await _cancelled(call)

    def _end_tickets(self, error: PreceptorError) -> None:
        """Those on the engine and those that wait, with the same answer."""
        for ticket in list(self._tickets.values()):
            self._end(ticket).reject(error)

    def _take_dropped(self) -> None:
        for dropped in self.scheduler.take_dropped():
            ticket = self._tickets.get(dropped.task.task_id)
            if ticket is not None and dropped.reason is DropReason.EXPIRED:
                error = DeadlineExceeded("the deadline passed while the request was queued", hint="allow more time")
                self._end(ticket).reject(error)
            elif ticket is not None:
                self._end(ticket).reject(Cancelled("the request was given up"))

    def _end(self, ticket: Ticket) -> Ticket:
        """Forgets it; who waited for its result without getting one goes into the queue."""
        self._tickets.pop(ticket.task.task_id, None)
        for follower in self._cache.leave(ticket) if self._cache is not None else ():
            self._submit_again(follower)
        return ticket

    def _submit_again(self, follower: Ticket) -> None:
        try:
            self.submit(follower)
        except PreceptorError as error:
            follower.reject(error)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _unforeseen() -> Internal:
    return Internal("an unforeseen failure while scoring", hint="see the teacher's log")


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])  # unlike awaiting the task itself, this ends when whoever waits is cancelled
