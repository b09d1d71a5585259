"""A leased task of a scorer: read its log, score what is new, commit, until nothing is left or the lease is lost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from preceptor import wire
from preceptor.error_details import error_of
from preceptor.errors import Fenced
from preceptor.names import rollout_text
from preceptor.queue import LogName, Then
from preceptor.queue.parts import first_row
from preceptor.types import ModelInfo
from preceptor.wire import rollout_id_from_proto
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.terms import Terms
from preceptor_serving.scheduler.types import FlowKey, Task, Work
from preceptor_teacher.billing import LeaseBill
from preceptor_teacher.boundary import check_task, read_item, reply_row_bytes
from preceptor_teacher.growing import Growth
from preceptor_teacher.pool import EnginePool
from preceptor_teacher.tickets import Ticket
from preceptor_teacher.worker.tending import LeasedTask
from preceptor_teacher.worker.view import Chunk, TaskView, inline_view, log_view, next_chunk

_numbers = itertools.count()


@dataclass(slots=True)
class ScoreLease(LeasedTask):
    """Rows of one sequence, as far as its log has them."""

    pool: EnginePool = field(kw_only=True)
    bill: LeaseBill | None = field(default=None, kw_only=True)

    def abandon(self) -> None:
        """See `LeasedTask.abandon`."""
        if self.bill is not None:
            self.bill.abandon()

    async def work(self) -> None:
        """See `LeasedTask.work`."""
        info = await self.pool.versions.find(self.lease.model, self.lease.flow.tenant)
        check_task(self.lease.task, info)
        next_row = self.lease.next_row
        while True:
            view = await self._view()
            self.held.weighs(view.unscored_tokens(self.lease.task, next_row))
            self.bench.hooks.reached("log read")
            chunk = next_chunk(self.lease.task, view, next_row, self._rows_per_call(info))
            if chunk is None:
                then = Then.FINISH if view.closed else Then.RELEASE
                await self.bench.queue.commit(self.lease, [], max(self.lease.scored_upto, view.scored_upto(next_row)), then)
                self.bench.hooks.reached("lease ended without rows")
                return
            result = await self._score(view, chunk, info)
            self.bench.hooks.reached("rows computed")
            next_row = result.rows.start + result.rows.count
            self.held.weighs(view.unscored_tokens(self.lease.task, next_row))
            if await self._commit(view, chunk, result, next_row):
                return

    async def _view(self) -> TaskView:
        task = self.lease.task
        if task.WhichOneof("source") == "inline":
            return inline_view(task)
        flow = self.lease.flow
        name = LogName.of(flow.tenant, flow.job, rollout_id_from_proto(task.rollout))
        known = await self.bench.logs.read(name)
        return log_view(task, known.entries, closed=known.closed)

    async def _score(self, view: TaskView, chunk: Chunk, info: ModelInfo) -> teacher_pb2.ScoreResult:
        """The engine's rows; whatever it refuses is raised."""
        item = teacher_pb2.ScoreItem(sequence=wire.sequence_to_proto(view.sequence), want=chunk.want)
        plan = read_item(item, info, (), self.bench.policy.bounds)
        first, last = (int(plan.prefix_tokens[0]) - 1, int(plan.prefix_tokens[-1])) if len(plan) else (0, 0)
        charged = first if chunk.start > first_row(self.lease.task) else 0
        work = Work(last - charged, len(plan))
        terms = self.bench.accounts.terms(self.lease.flow.tenant, self.lease.flow.job)
        name, flow = f"lease-{next(_numbers)}", self._flow(terms)
        task = Task(name, flow, work, terms.weight, self.deadline_s, suspect=self.lease.alone)
        ticket = Ticket(
            task,
            item,
            info.model,
            self._growth(view),
            retry_alone=False,
            paid_tokens=charged,
        )
        await self.pool.look_up([ticket])
        self.bill = LeaseBill(self.bench.accounts, ticket)
        try:
            if not ticket.result.done():
                await self.bill.open(self.lease, terms.limits, chunk.start, chunk.end)
                self.bench.hooks.reached("quota reserved")
                self.pool.submit(ticket)
            result = await ticket.result
            if result.HasField("error"):
                raise error_of(result.error)
        except BaseException:
            self.pool.cancel([ticket.task.task_id])
            await self.bill.drop(cancelled=self.cancelled)
            raise
        return result

    async def _commit(self, view: TaskView, chunk: Chunk, result: teacher_pb2.ScoreResult, next_row: int) -> bool:
        """True when the lease has ended with it."""
        then = Then.RELEASE  # also where a deterministic engine waits for more tokens
        if next_row >= chunk.end and (chunk.more or chunk.last):
            then = Then.KEEP if chunk.more else Then.FINISH
        envelopes = [teacher_pb2.Envelope(rows=result.rows, receipt=result.receipt)] if result.rows.count else []
        assert self.bill is not None, "rows were scored before they are committed"
        payment = self.bill.in_commit(self.lease, result)
        try:
            committed = await self.bench.queue.commit(self.lease, envelopes, view.scored_upto(next_row), then, payment=payment)
        except Fenced as error:
            self.lost = error
            await self.bill.drop(cancelled=self.cancelled)
            raise
        await self.bill.paid(result, payment)
        self.bench.hooks.reached("rows committed")
        if committed.lease is not None:
            self.lease = committed.lease
        return then is not Then.KEEP

    def _rows_per_call(self, info: ModelInfo) -> int:
        return max(1, self.bench.policy.commit_bytes // reply_row_bytes(self.lease.task.want, info))

    def _flow(self, terms: Terms) -> FlowKey:
        flow = self.lease.flow
        return FlowKey(self.bench.teacher, flow.tenant, flow.job, terms.band_for(self.lease.task.band))

    def _growth(self, view: TaskView) -> Growth:
        """States are shared inside a job; one rollout's attempts and views find each other's prefixes there."""
        flow, task = self.lease.flow, self.lease.task
        attempt = rollout_text(rollout_id_from_proto(task.rollout)) if task.WhichOneof("source") == "rollout" else ""
        return Growth(f"{flow.tenant}/{flow.job}", f"{task.task_id} {attempt}", open=not view.closed)
