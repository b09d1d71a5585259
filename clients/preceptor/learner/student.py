"""The student as a learner sees it: applies batches, keeps steps, names weights; and is fed again after it died.

Every call finds the student where the journal says it should be. When it restarts it is back at its durable step, so the run is
opened again under a new epoch and the journaled batches are sent once more, byte for byte.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from preceptor.errors import Conflict, NotFound, PreceptorError, Unsupported
from preceptor.journal import BatchSent, LearnerJournal, StepDurable
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan
from preceptor.learner.ports import StudentPort
from preceptor.learner.waits import may_pass, persist
from preceptor.recipes import SCHEMA
from preceptor_proto.v1 import common_pb2, student_pb2

T = TypeVar("T")


class Student:
    """The student of one run."""

    def __init__(self, port: StudentPort, journal: LearnerJournal, plan: RunPlan, hooks: Hooks, *, deadline_s: float) -> None:
        self._port, self._journal, self._plan, self._hooks = port, journal, plan, hooks
        self._deadline_s = deadline_s
        self._epoch: int | None = None
        self.published: common_pb2.ModelRef | None = None
        self.copies: Mapping[str, common_pb2.ModelRef] = {}

    async def open(self) -> None:
        """The run is open, and the student has applied what the journal says it has."""
        await self._steady("opening the run at the student", self._nothing)

    async def step(self, batch: BatchSent) -> student_pb2.StepReply:
        """Applies the next batch, once however often it is sent."""
        return await self._steady(f"step {batch.step} of the student", lambda left_s: self._send(batch, left_s))

    async def checkpoint(self) -> int:
        """The step that is durable now."""

        async def attempt(left_s: float) -> int:
            request = student_pb2.CheckpointRequest(run=self._plan.run, epoch=self._epoch)
            return (await self._port.checkpoint(request, deadline_s=left_s)).durable_step

        return await self._steady("the checkpoint of the student", attempt)

    async def publish(self) -> common_pb2.ModelRef:
        """The name of the weights as they are now."""

        async def attempt(left_s: float) -> student_pb2.PublishReply:
            request = student_pb2.PublishRequest(run=self._plan.run, epoch=self._epoch)
            return await self._port.publish(request, deadline_s=left_s)

        reply = await self._steady("publishing the student's weights", attempt)
        self.published, self.copies = reply.model, reply.copies
        return self.published

    # ---------------------------------------------------------------- opening

    async def _steady(self, what: str, call: Callable[[float], Awaitable[T]]) -> T:
        async def attempt(left_s: float) -> T:
            if self._epoch is None:
                await self._open(left_s)
            try:
                return await call(left_s)
            except PreceptorError as error:
                if _has_gone(error):
                    self._epoch = None  # whoever answers next may be a new process: open the run again
                raise

        return await persist(attempt, what, self._deadline_s, _has_gone)

    async def _open(self, left_s: float) -> None:
        compiled = self._plan.compiled
        heads = sorted({one.head_sha256 for one in compiled.teachers.values() if one.head_sha256})
        request = student_pb2.OpenRunRequest(run=self._plan.run, config_json=compiled.config_json, head_sha256=heads)
        status = await self._port.open_run(request, deadline_s=left_s)
        self._check(status)
        _check_device(self._plan, status.device)
        self._epoch = status.epoch
        self.published = status.published if status.HasField("published") else None
        self.copies = status.copies
        try:
            await self._feed_again(status, left_s)
        except PreceptorError:
            self._epoch = None
            raise

    async def _feed_again(self, status: student_pb2.StudentStatus, left_s: float) -> None:
        state = self._journal.state
        if state.durable_step < status.durable_step <= state.applied_step:
            await self._journal.write(StepDurable(status.durable_step))
        for step in range(status.applied_step + 1, state.applied_step + 1):
            await self._send(state.batches[step], left_s)

    def _check(self, status: student_pb2.StudentStatus) -> None:
        """The student may be behind the journal as far as batches are kept, and ahead by the one that was sent last."""
        state = self._journal.state
        newest = state.applied_step + 1 if state.applied_step + 1 in state.batches else state.applied_step
        if status.applied_step > newest:
            raise Conflict(
                f"the student has applied step {status.applied_step} of run {self._plan.run}, this journal ends at {newest}",
                field="run",
                value=status.applied_step,
                limit=newest,
                hint="another learner trained this run, or the journal is an older copy: take another run name",
            )
        if status.applied_step < state.durable_step:
            raise Conflict(
                f"the student has lost run {self._plan.run}: it is at step {status.applied_step}, "
                f"and this journal forgot what came before step {state.durable_step}",
                field="run",
                value=status.applied_step,
                limit=state.durable_step,
                hint="give the student service its folder back, or take another run name",
            )

    # ---------------------------------------------------------------- sending

    async def _send(self, batch: BatchSent, left_s: float) -> student_pb2.StepReply:
        reply = await self._port.step(self._messages(batch), deadline_s=left_s)
        self._hooks.reached("step applied")
        return reply

    def _messages(self, batch: BatchSent) -> list[student_pb2.StepMessage]:
        header = student_pb2.StepHeader(
            run=batch.run,
            epoch=self._epoch,
            step=batch.step,
            batch_sha256=batch.digest,
            micro_batches=len(batch.micro_batches),
            objective=student_pb2.ObjectiveSpec(schema=SCHEMA, json=batch.objective),
        )
        parts = (student_pb2.MicroBatch.FromString(payload) for payload in batch.micro_batches)
        return [
            student_pb2.StepMessage(header=header),
            *(student_pb2.StepMessage(micro_batch=part) for part in parts),
        ]

    async def _nothing(self, _left_s: float) -> None:
        """Opening is all there is to do."""


def _check_device(plan: RunPlan, device: str) -> None:
    """Deterministic mode is a promise of the CPU; a student that does not say where it trains is older than the question."""
    if plan.deterministic and device not in ("", "cpu"):
        raise Unsupported(
            f"deterministic mode needs a student that trains on the cpu, this one trains on {device}",
            field="schedule.deterministic", value=True, limit="false with such a student",
            hint="set schedule.deterministic=false, or student.device=cpu at the service",
        )  # fmt: skip


def _has_gone(error: PreceptorError) -> bool:
    """A student that is away, or that came back and does not know the run."""
    return may_pass(error) or isinstance(error, NotFound)
