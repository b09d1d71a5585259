"""One leased task: read its log, score what is new, commit, until nothing is left or the lease is lost."""

from __future__ import annotations

import asyncio
import itertools
import math
from contextlib import suppress
from dataclasses import dataclass, replace

from preceptor import limits, wire
from preceptor.error_details import detail_of, error_of
from preceptor.errors import DeadlineExceeded, Fenced, Internal, PreceptorError, VersionGone
from preceptor.hooks import Hooks
from preceptor.logs import get_logger
from preceptor.names import rollout_text
from preceptor.queue import Lease, LogName, Queue, TaskState, Then
from preceptor.queue.envelopes import too_late
from preceptor.queue.parts import first_row
from preceptor.types import ModelInfo
from preceptor.wire import rollout_id_from_proto
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.terms import Terms
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import FlowKey, Task, Work
from preceptor_teacher.billing import LeaseBill
from preceptor_teacher.boundary import check_task, read_item, reply_row_bytes
from preceptor_teacher.growing import Growth
from preceptor_teacher.pool import EnginePool
from preceptor_teacher.tickets import Ticket
from preceptor_teacher.worker.holdings import Held
from preceptor_teacher.worker.logs import LogReader
from preceptor_teacher.worker.policy import WorkerPolicy
from preceptor_teacher.worker.view import Chunk, TaskView, inline_view, log_view, next_chunk

log = get_logger("preceptor.worker")
_numbers = itertools.count()


@dataclass(slots=True)
class LeasedTask:
    """Runs once. `run` returns when the lease has ended, one way or another."""

    queue: Queue
    pool: EnginePool
    logs: LogReader
    policy: WorkerPolicy
    lease: Lease
    held: Held
    hooks: Hooks
    accounts: Accounts
    teacher: str  # the name that its flows have at every door, whichever alias the task used
    bill: LeaseBill | None = None
    deadline_s: float = math.inf  # on this process's clock, which nobody can set
    lost: Fenced | None = None  # what the queue said when the lease was another's

    async def run(self) -> None:
        """Commits, fails or hands back; a lease that somebody else took over is let go."""
        self.deadline_s = asyncio.get_running_loop().time() + self.lease.left_s
        beating = asyncio.create_task(self._beat(asyncio.current_task()), name="lease-heartbeat")
        try:
            await self._score_all()
        except Fenced:
            log.info("lease_lost", task_id=self.lease.task_id)
        except VersionGone as error:
            await self._tell(teacher_pb2.Envelope(error=detail_of(error)))
        except DeadlineExceeded as error:
            late = asyncio.get_running_loop().time() >= self.deadline_s  # else it was the engine that took too long
            await (self._tell(too_late(self.lease.task)) if late else self._fail(error))
        except PreceptorError as error:
            await self._fail(error)
        except asyncio.CancelledError:
            await self._give_back()
            raise
        except Exception as error:  # a defect of ours: the task must not look like a dead worker's
            log.error("task_defect", task_id=self.lease.task_id, exc_info=error)
            await self._fail(Internal("an unforeseen failure while scoring this task", hint="see the teacher's log"))
        finally:
            if self.bill is not None:
                self.bill.abandon()
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    # ---- scoring

    async def _score_all(self) -> None:
        limits.check(self.lease.task, "task")  # whoever may write the queue's keys may have written anything
        info = await self.pool.versions.find(self.lease.model, self.lease.flow.tenant)
        check_task(self.lease.task, info)
        next_row = self.lease.next_row
        while True:
            view = await self._view()
            self.held.weighs(view.unscored_tokens(self.lease.task, next_row))
            self.hooks.reached("log read")
            chunk = next_chunk(self.lease.task, view, next_row, self._rows_per_call(info))
            if chunk is None:
                then = Then.FINISH if view.closed else Then.RELEASE
                await self.queue.commit(self.lease, [], max(self.lease.scored_upto, view.scored_upto(next_row)), then)
                self.hooks.reached("lease ended without rows")
                return
            result = await self._score(view, chunk, info)
            self.hooks.reached("rows computed")
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
        known = await self.logs.read(name)
        return log_view(task, known.entries, closed=known.closed)

    async def _score(self, view: TaskView, chunk: Chunk, info: ModelInfo) -> teacher_pb2.ScoreResult:
        """The engine's rows; whatever it refuses is raised."""
        item = teacher_pb2.ScoreItem(sequence=wire.sequence_to_proto(view.sequence), want=chunk.want)
        plan = read_item(item, info, (), self.policy.bounds)
        first, last = (int(plan.prefix_tokens[0]) - 1, int(plan.prefix_tokens[-1])) if len(plan) else (0, 0)
        charged = first if chunk.start > first_row(self.lease.task) else 0
        work = Work(last - charged, len(plan))
        terms = self.accounts.terms(self.lease.flow.tenant, self.lease.flow.job)
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
        self.bill = LeaseBill(self.accounts, ticket)
        try:
            if not ticket.result.done():
                await self.bill.open(self.lease, terms.limits, chunk.start, chunk.end)
                self.hooks.reached("quota reserved")
                self.pool.submit(ticket)
            result = await ticket.result
            if result.HasField("error"):
                raise error_of(result.error)
        except BaseException:
            self.pool.cancel([ticket.task.task_id])
            await self.bill.drop(cancelled=self._cancelled)
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
            committed = await self.queue.commit(self.lease, envelopes, view.scored_upto(next_row), then, payment=payment)
        except Fenced as error:
            self.lost = error
            await self.bill.drop(cancelled=self._cancelled)
            raise
        await self.bill.paid(result, payment)
        self.hooks.reached("rows committed")
        if committed.lease is not None:
            self.lease = committed.lease
        return then is not Then.KEEP

    @property
    def _cancelled(self) -> bool:
        """Nobody takes this task over."""
        return self.lost is not None and self.lost.value == TaskState.CANCELLED

    def _rows_per_call(self, info: ModelInfo) -> int:
        return max(1, self.policy.commit_bytes // reply_row_bytes(self.lease.task.want, info))

    def _flow(self, terms: Terms) -> FlowKey:
        flow = self.lease.flow
        return FlowKey(self.teacher, flow.tenant, flow.job, terms.band_for(self.lease.task.band))

    def _growth(self, view: TaskView) -> Growth:
        """States are shared inside a job; one rollout's attempts and views find each other's prefixes there."""
        flow, task = self.lease.flow, self.lease.task
        attempt = rollout_text(rollout_id_from_proto(task.rollout)) if task.WhichOneof("source") == "rollout" else ""
        return Growth(f"{flow.tenant}/{flow.job}", f"{task.task_id} {attempt}", open=not view.closed)

    # ---- how a lease ends otherwise

    async def _beat(self, owner: asyncio.Task[None] | None) -> None:
        """Renews the lease; when it is lost, the work for it stops."""
        while True:
            await asyncio.sleep(self.policy.heartbeat_s)
            try:
                renewed = await self.queue.heartbeat(self.lease)
            except Fenced as error:
                self.lost = error
                if owner is not None:
                    owner.cancel()
                return
            except PreceptorError as error:
                log.warning("heartbeat_failed", task_id=self.lease.task_id, code=str(error.code))
            else:
                self.lease = replace(self.lease, expires_at_s=renewed.expires_at_s)
                self.hooks.reached("lease renewed")

    async def _tell(self, envelope: teacher_pb2.Envelope) -> None:
        """The task ends with an error that its learner can act on: it opens the task again under served weights, or later."""
        with suppress(Fenced):
            await self.queue.commit(self.lease, [envelope], self.lease.scored_upto, Then.FINISH)

    async def _fail(self, error: PreceptorError) -> None:
        """The queue decides by the code: a strike, a death, or nothing but another try."""
        log.warning("task_failed", task_id=self.lease.task_id, code=str(error.code), message=error.message)
        if error.retryable:
            await asyncio.sleep(min(error.retry_after_s or self.policy.retry_pause_s, self.policy.max_pause_s))
        with suppress(Fenced):
            await self.queue.fail(self.lease, detail_of(error))

    async def _give_back(self) -> None:
        with suppress(PreceptorError):
            async with asyncio.timeout(self.policy.hand_back_s):
                await self.queue.hand_back(self.lease)
