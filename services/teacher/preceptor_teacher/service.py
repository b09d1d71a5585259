"""`TeacherService`: everything a teacher does, without a socket. Doors and the queue worker are callers of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from preceptor import wire
from preceptor.config.settings import TeacherSettings
from preceptor.error_details import detail_of
from preceptor.errors import NotFound, PreceptorError, Unavailable, Unsupported
from preceptor.queue import Queue
from preceptor.queue.quotas import Counter
from preceptor.queue.redis import RedisLedger, RedisQueue
from preceptor.suggest import did_you_mean
from preceptor.types import ModelInfo
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Identity, Scope
from preceptor_serving.auth.terms import Terms
from preceptor_serving.engine_host.placement import PlaceEngine, in_child_process
from preceptor_serving.engines.plan import RowPlan
from preceptor_serving.frame.call import Call
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.shared_clocks import SharedClocks
from preceptor_serving.scheduler.types import FlowKey, QueueLimits, Task, Work
from preceptor_serving.service import GrpcService, Rpc, ServiceContext
from preceptor_serving.weights import roots_of
from preceptor_teacher.api import ChatClient, ChatReply, Message, Payer
from preceptor_teacher.api.meters import ProviderCollector
from preceptor_teacher.billing import count_calls, counts_of, paid_for
from preceptor_teacher.boundary import Bounds, check_count, check_pair, check_replies, read_item, reply_bytes
from preceptor_teacher.cache import ScoreCache, front_of, open_cache, watch_cache
from preceptor_teacher.catalog import Entry, GradingEntry, TeacherSpec, teachers_of
from preceptor_teacher.checks import Checker, CheckSpec
from preceptor_teacher.discriminator.served import Discriminator, DiscriminatorCollector
from preceptor_teacher.draining import Draining
from preceptor_teacher.grading import GradingTeacher, judge_of, names_of
from preceptor_teacher.judges import Judge, JudgementCollector, JudgeSpec
from preceptor_teacher.judging import Asker, Court
from preceptor_teacher.pool import EnginePool, PoolPolicy
from preceptor_teacher.runs import named, result_of, run_all
from preceptor_teacher.standings import Standings
from preceptor_teacher.status import StatusDesk, visible_to
from preceptor_teacher.status_metrics import StatusCollector
from preceptor_teacher.tickets import Ticket
from preceptor_teacher.version_calls import VersionCalls, tenant_of
from preceptor_teacher.worker import Grading, Scoring, Trade, WorkerPolicy
from preceptor_teacher.workers import Workers

if TYPE_CHECKING:
    from fastapi import APIRouter

FLOW_SHARE = 0.5  # of the queue's room that other flows leave


@dataclass(frozen=True, slots=True)
class Teacher:
    """One served teacher."""

    spec: TeacherSpec
    pool: EnginePool

    @property
    def infos(self) -> list[ModelInfo]:
        """Its versions, newest first, under all of its names."""
        return [replace(info, aliases=self.spec.aliases) for info in self.pool.infos]


class TeacherService:
    """A `preceptor_serving.service.Service`. `teachers` overrides those of the settings; `place_engine` says where they run."""

    name = "teacher"

    def __init__(
        self,
        teachers: Sequence[Entry] = (),
        place_engine: PlaceEngine = in_child_process,
        policy: PoolPolicy | None = None,
        queue: Queue | None = None,
        worker_policy: WorkerPolicy | None = None,
    ) -> None:
        self._specs = tuple(teachers)
        self._place_engine = place_engine
        self._policy = policy or PoolPolicy()
        self._queue = queue
        self._own_queue: Queue | None = None
        self._worker_policy = worker_policy or WorkerPolicy()
        self._workers: Workers | None = None
        self._teachers: dict[str, Teacher] = {}
        self._judges: list[GradingTeacher] = []
        self._courts: dict[str, Court] = {}
        self._clients: dict[str, ChatClient] = {}
        self._cache: ScoreCache | None = None
        self._worker_name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._pools: dict[str, EnginePool] = {}
        self._desk: StatusDesk | None = None
        self._draining: Draining | None = None
        self._clocks: list[SharedClocks] = []
        self._ledger: RedisLedger | None = None
        self.accounts = Accounts()
        self._numbers = itertools.count()
        self._bounds = Bounds(1, 1, 1)
        self._limits = QueueLimits()

    # ---- the frame's side

    def grpc_services(self) -> tuple[GrpcService, ...]:
        rpcs = {
            "Describe": Rpc(self.describe, Scope.SCORE),
            "Score": Rpc(self.score, Scope.SCORE),
            "Grade": Rpc(self.grade, Scope.GRADE),
            "Status": Rpc(self.status, Scope.STATUS, always=True),
            "Drain": Rpc(self.drain, Scope.ADMIN),
            **VersionCalls(lambda name: self.find(name, "teacher").pool.versions).rpcs(),
        }
        return (GrpcService(teacher_pb2.DESCRIPTOR.services_by_name["Teacher"], rpcs),)

    def rest_routers(self) -> tuple[APIRouter, ...]:
        from preceptor_teacher.compat.routes import compat_router
        from preceptor_teacher.rest.drain import drain_router
        from preceptor_teacher.rest.routes import teacher_router
        from preceptor_teacher.rest.status import status_router
        from preceptor_teacher.rest.usage import usage_router

        return (teacher_router(self), usage_router(self), status_router(self), drain_router(self), compat_router(self))

    async def start(self, context: ServiceContext) -> None:
        settings = context.settings
        assert isinstance(settings, TeacherSettings), "the teacher runs on teacher settings"
        self._bounds = Bounds(settings.max_batch_items, settings.max_sequence_tokens, settings.max_message_bytes)
        most = settings.max_queue_tasks
        self._limits = limits = QueueLimits(flow_tasks=most, total_tasks=most, flow_share=FLOW_SHARE)
        self._queue = self._queue or await self._open_queue(settings)
        self._open_accounts(context, settings)
        self._cache = open_cache(settings)
        if self._cache is not None:
            watch_cache(self._cache, context)
        entries = self._specs or await asyncio.to_thread(teachers_of, settings)  # a model of a hub may be downloaded
        draining = self._open_desk([spec.name for spec in entries], context)
        context.meters.registry.register(ProviderCollector(self._clients))
        context.meters.registry.register(JudgementCollector(self._judges))
        context.meters.registry.register(DiscriminatorCollector(self._judges))
        for spec in entries:
            context.lifecycle.loading(f"loading teacher {spec.name}")
            if not isinstance(spec, TeacherSpec):
                await self._open_judge(spec, context)
                draining.watch(spec.name, self._courts[spec.name].turns.scheduler)
                continue
            front = front_of(self._cache, spec.engine) if self._cache is not None else None
            clocks, roots = self._open_clocks(spec.name, context), roots_of(settings.weights_roots)
            pool = EnginePool(self._place_engine(spec.engine, context), self._policy, limits, front, clocks, roots)
            self._teachers[spec.name] = Teacher(spec, pool)
            await pool.start()
            self._pools[spec.name] = pool
            draining.watch(spec.name, pool.scheduler)
        if self._queue is not None:
            self._start_workers(self._queue, context, settings)

    def _open_desk(self, names: Sequence[str], context: ServiceContext) -> Draining:
        """Before anything is loaded, so that who asks hears what is still to come."""
        self._draining = draining = Draining(context.lifecycle, names, context.stop)
        standings = Standings(names, self._pools, self._judges, draining, context.lifecycle, context.meters)
        self._desk = StatusDesk(self._pools, self._all_names, self._worker_name, context, self._queue, standings, self._judges)
        context.meters.registry.register(StatusCollector(self._desk))
        self._desk.start()
        return draining

    async def _open_judge(self, spec: GradingEntry, context: ServiceContext) -> None:
        """A provider is asked nothing before there is something to judge, unless it is to be probed. Readiness tells of it."""
        judge = self._grading(spec)
        context.lifecycle.probe(f"judge:{spec.name}", lambda: judge.trouble)
        self._judges.append(judge)
        self._courts[spec.name] = Court(judge, self.accounts, self._limits, self._bounds, self._open_clocks(spec.name, context))
        await judge.start()

    def _grading(self, spec: GradingEntry) -> GradingTeacher:
        if not isinstance(spec, JudgeSpec):
            return Checker(spec) if isinstance(spec, CheckSpec) else Discriminator(spec, self.find_judge)
        judge = Judge(spec, self.accounts.desk, lambda payer, spent: count_calls(self.accounts, spec.name, payer, spent))
        self._clients[spec.name] = judge.client
        return judge

    def _open_accounts(self, context: ServiceContext, settings: TeacherSettings) -> None:
        """Quotas and usage, shared with the other workers where the operator has given them a server."""
        if settings.redis_url is not None:
            password = settings.redis_password.get_secret_value() if settings.redis_password else None
            self._ledger = RedisLedger.open(settings.redis_url, password)
        self.accounts = Accounts(context.terms, self._ledger)
        context.lifecycle.probe("quotas", lambda: self.accounts.desk.trouble)
        self.accounts.start()

    def _open_clocks(self, teacher: str, context: ServiceContext) -> SharedClocks | None:
        """The clocks of one teacher's flows, in the queue where there is one."""
        if self._queue is None:
            return None
        clocks = SharedClocks(self._queue, teacher)
        context.lifecycle.probe(f"clocks:{teacher}", lambda: clocks.trouble)
        clocks.start()
        self._clocks.append(clocks)
        return clocks

    async def _open_queue(self, settings: TeacherSettings) -> Queue | None:
        """The durable door, where the operator has given it a server; it is closed with the service."""
        if settings.redis_url is None:
            return None
        password = settings.redis_password.get_secret_value() if settings.redis_password else None
        self._own_queue = await RedisQueue.connect(settings.redis_url, password=password)
        return self._own_queue

    def _start_workers(self, queue: Queue, context: ServiceContext, settings: TeacherSettings) -> None:
        bounds = replace(self._bounds, max_reply_bytes=WorkerPolicy().bounds.max_reply_bytes)
        policy = replace(self._worker_policy, bounds=bounds)
        assert self._draining is not None, "teachers are named before they work"
        self._workers = Workers(queue, self._worker_name, policy, self.accounts, settings.drain_grace_s)
        trades: dict[str, Trade] = {name: Scoring(teacher.pool) for name, teacher in self._teachers.items()}
        trades |= {name: Grading(court) for name, court in self._courts.items()}
        self._workers.start({self.all_names(name): trade for name, trade in trades.items()}, context.lifecycle, self._draining)

    async def stop(self) -> None:
        if self._desk is not None:
            await self._desk.close()
        if self._workers is not None:
            await self._workers.stop()
        await asyncio.gather(*(teacher.pool.stop() for teacher in self._teachers.values()))
        await asyncio.gather(*(judge.close() for judge in self._judges))
        await asyncio.gather(*(clocks.close() for clocks in self._clocks), self.accounts.close())
        if self._cache is not None:
            await self._cache.close()
        if self._ledger is not None:
            await self._ledger.close()
        if self._own_queue is not None:
            await self._own_queue.close()

    # ---- calls

    @property
    def teachers(self) -> Mapping[str, Teacher]:
        return self._teachers

    @property
    def names(self) -> list[str]:
        """Everything that work is accounted to: teachers and judges, by their own names."""
        return [*self._teachers, *(judge.spec.name for judge in self._judges)]

    def all_names(self, name: str) -> tuple[str, ...]:
        """The name and the aliases of the teacher or judge of that name."""
        spec = self._teachers[name].spec if name in self._teachers else self.find_judge(name).spec
        return (spec.name, *spec.aliases)

    def find(self, name: str, field: str = "teacher.teacher") -> Teacher:
        """The teacher of that name or alias; `NotFound` with the nearest names."""
        for teacher in self._teachers.values():
            if name == teacher.spec.name or name in teacher.spec.aliases:
                return teacher
        if judge_of(self._judges, name) is not None:
            hint = f"these score: {', '.join(self._teachers) or 'none of this service'}"
            raise Unsupported(f"teacher {name} grades text; it does not score tokens", field=field, value=name, hint=hint)
        raise self._unknown(name, field)

    def find_judge(self, name: str, field: str = "teacher.teacher") -> GradingTeacher:
        """The teacher that grades of that name or alias."""
        judge = judge_of(self._judges, name)
        if judge is not None:
            return judge
        if any(name in (teacher.spec.name, *teacher.spec.aliases) for teacher in self._teachers.values()):
            hint = f"these grade: {', '.join(names_of(self._judges)) or 'none of this service'}"
            raise Unsupported(f"teacher {name} scores tokens; it does not grade text", field=field, value=name, hint=hint)
        raise self._unknown(name, field)

    def _unknown(self, name: str, field: str) -> NotFound:
        scorers = [one for teacher in self._teachers.values() for one in (teacher.spec.name, *teacher.spec.aliases)]
        hint = did_you_mean(name, [*scorers, *names_of(self._judges)])
        return NotFound(f"there is no teacher {name!r}", field=field, value=name, hint=hint)

    def infos(self, name: str = "", field: str = "teacher") -> list[ModelInfo]:
        """Versions of the named teacher, newest first, or of all; a judge has one, of which only the provider knows more."""
        judge = judge_of(self._judges, name)
        if judge is not None:
            return [judge.info]
        if name:
            return self.find(name, field).infos
        return [info for teacher in self._teachers.values() for info in teacher.infos] + [one.info for one in self._judges]

    def _scoring_names(self) -> list[str]:
        return [name for teacher in self._teachers.values() for name in (teacher.spec.name, *teacher.spec.aliases)]

    def _all_names(self) -> list[str]:
        return [*self._scoring_names(), *names_of(self._judges)]

    async def status(self, request: teacher_pb2.StatusRequest, call: Call) -> teacher_pb2.TeacherStatus:
        """Engines, what is wrong, and the jobs that this caller may see; answered while teachers are loaded, too."""
        if self._desk is None:
            raise Unavailable("the service does not know its teachers yet", retry_after_s=1.0)
        return wire.teacher_status_to_proto(visible_to(call.identity, await self._desk.status()))

    async def drain(self, request: teacher_pb2.DrainRequest, call: Call) -> teacher_pb2.DrainReply:
        """Takes teachers out of work or back into it, and tells what those that are drained still have."""
        assert self._draining is not None, "a call comes after the start"
        names = [self._own_name(request.teacher)] if request.teacher else self.names
        (self._draining.undo if request.undo else self._draining.drain)(names)
        if request.stop and not request.undo:
            self._draining.stop(f"key {call.identity.key_id}")
        return self._draining.left(names)

    def _own_name(self, name: str) -> str:
        judge = judge_of(self._judges, name)
        return judge.spec.name if judge is not None else self.find(name, "teacher").spec.name

    def _check_taken(self, name: str) -> None:
        if self._draining is not None:
            self._draining.check(name)

    async def describe(self, request: teacher_pb2.DescribeRequest, call: Call) -> teacher_pb2.DescribeReply:
        """Versions of the named teacher, or of all."""
        return teacher_pb2.DescribeReply(teachers=[wire.model_info_to_proto(info) for info in self.infos(request.teacher)])

    async def score(self, request: teacher_pb2.ScoreRequest, call: Call) -> teacher_pb2.ScoreReply:
        """One result for each item, in order; only what is wrong with the whole request is raised."""
        name, exact = wire.choice_from_proto(request.teacher)
        teacher = self.find(name)
        self._check_taken(teacher.spec.name)
        info = await teacher.pool.versions.find(exact, tenant_of(call.identity))
        check_pair(request, info)
        check_count(len(request.items), self._bounds)
        flow = self.flow(teacher, call.identity, request.job, request.band)
        results: list[teacher_pb2.ScoreResult] = []
        tickets: dict[int, Ticket] = {}
        sizes_bytes: list[int] = []
        for index, item in enumerate(request.items):
            try:
                plan = read_item(item, info, self._others(teacher), self._bounds)
            except PreceptorError as error:
                results.append(teacher_pb2.ScoreResult(error=detail_of(error)))
            else:
                results.append(teacher_pb2.ScoreResult())
                sizes_bytes.append(reply_bytes(item.want, plan, info))
                weight = call.identity.terms.weight
                tickets[index] = Ticket(self._task(flow, plan, weight, call.deadline), item, info.model)
        check_replies(sizes_bytes, self._bounds)
        scored = await self._all_results(teacher.pool, flow, call.identity.terms, list(tickets.values()))
        for index, result in zip(tickets, scored, strict=True):
            results[index] = result
        return teacher_pb2.ScoreReply(results=[named(result, index) for index, result in enumerate(results)])

    async def grade(self, request: teacher_pb2.GradeRequest, call: Call) -> teacher_pb2.GradeReply:
        """One verdict or error for each item, in order."""
        job = call.identity.job_for(request.job)  # before anything is said of teachers
        court = self._court(self.find_judge(request.teacher.teacher))
        asker = self._asker(court, call, job)
        results = await court.grade(request, asker)
        self.accounts.count(asker.flow, {Counter.REQUESTS: 1})
        return teacher_pb2.GradeReply(results=results)

    async def converse(self, judge: Judge, messages: Sequence[Message], max_tokens: int | None, call: Call) -> ChatReply:
        """A judge's answer to a conversation, accounted to the caller as one judged item."""
        court = self._court(judge)
        asker = self._asker(court, call, call.identity.job_for(""))
        async with court.session(asker, 1):
            reply = await judge.converse(messages, max_tokens, Payer(asker.flow.tenant, asker.flow.job))
        self.accounts.count(asker.flow, {Counter.REQUESTS: 1})
        return reply

    def _court(self, judge: GradingTeacher) -> Court:
        self._check_taken(judge.spec.name)
        return self._courts[judge.spec.name]

    def _asker(self, court: Court, call: Call, job: str) -> Asker:
        identity = call.identity
        name, band = court.judge.spec.name, identity.terms.band_for(0)
        return Asker(FlowKey(name, identity.tenant, job, band), identity.terms, call.deadline)

    def flow(self, teacher: Teacher, identity: Identity, job: str, band: int) -> FlowKey:
        """Whose work a request is, in the band that the caller's key allows."""
        return FlowKey(teacher.spec.name, identity.tenant, identity.job_for(job), identity.terms.band_for(band))

    def _others(self, teacher: Teacher) -> list[ModelInfo]:
        return [other.pool.info for other in self._teachers.values() if other is not teacher]

    def _task(self, flow: FlowKey, plan: RowPlan, weight: float, deadline_s: float) -> Task:
        tokens = int(plan.prefix_tokens[-1]) if len(plan) else 0
        return Task(f"door-{next(self._numbers)}", flow, Work(tokens, len(plan)), weight, deadline_s)

    async def _all_results(
        self, pool: EnginePool, flow: FlowKey, terms: Terms, tickets: Sequence[Ticket]
    ) -> Sequence[teacher_pb2.ScoreResult]:
        """The results of all tickets, counted; what the cache does not know is paid for."""
        await pool.look_up(tickets)
        fresh = [ticket for ticket in tickets if not ticket.result.done()]
        async with paid_for(self.accounts, flow, terms.limits, fresh):
            await run_all(pool, fresh)
        results = [await result_of(ticket) for ticket in tickets]
        self.accounts.count(flow, {Counter.REQUESTS: 1, **counts_of(tickets, results)})
        return results
