"""The learner's desk for score tasks: opened after they are journaled, rows journaled before they are deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from preceptor.error_details import error_of
from preceptor.errors import DeadlineExceeded, PreceptorError
from preceptor.journal import (
    JournalRecord,
    LearnerJournal,
    OutPosition,
    RolloutDropped,
    RolloutKey,
    RowsReceived,
    TaskEnded,
    TaskOpened,
    TaskProgress,
)
from preceptor.learner.failures import Failures
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import inline_task
from preceptor.learner.waits import Pulse, persist, together
from preceptor.queue import Delivery, Flow, LogName, Queue, ScoreStream, Taken
from preceptor.queue.learner import REPOKE_S
from preceptor.queue.types import OUT_START
from preceptor.types import Rollout, RolloutId
from preceptor.wire import rollout_from_proto
from preceptor_proto.v1 import rollout_pb2, teacher_pb2

T = TypeVar("T")

READ_S = 1.0
STUCK_TICKS = 2
SUPERSEDED = "superseded"


class ScoreDesk:
    """All open tasks of a run. `run` does the work in the background; `open`, `cancel` and `wait` are for the stages."""

    def __init__(
        self,
        queue: Queue,
        journal: LearnerJournal,
        plan: RunPlan,
        failures: Failures,
        hooks: Hooks,
        *,
        deadline_s: float,
        repoke_s: float = REPOKE_S,
    ) -> None:
        self._queue, self._journal, self._plan, self._hooks, self._failures = queue, journal, plan, hooks, failures
        self._deadline_s, self._repoke_s = deadline_s, repoke_s
        self._pulse = Pulse()
        self._streams = {
            model: self._stream(model) for model in {one.model for one in plan.compiled.teachers.values() if one.want}
        }
        self._quiet: dict[str, tuple[int, int]] = {}

    @property
    def depth(self) -> int:
        """Tasks that still owe rows."""
        return sum(len(stream.open_tasks) for stream in self._streams.values())

    async def resume(self) -> None:
        """Goes on with what the journal left open. Tasks of attempts that can no longer win are taken back."""
        for model, stream in self._streams.items():
            if stream.position != OUT_START:
                await self._steady(lambda _, s=stream: self._queue.delete_out(s.flow, s.position), model)
        point = self._journal.state.resume_point()
        closed = self._journal.state.closed
        lost = [one.opened for one in point.open_tasks if RolloutKey.of(one.opened.rollout) not in closed]
        await self.cancel([*point.to_cancel, *lost])
        for one in point.open_tasks:
            stream, task = self._place(one.opened)
            if stream is not None and RolloutKey.of(one.opened.rollout) in closed:
                await self._steady(lambda _, s=stream, t=task, r=one.next_row: s.resume(t, r), stream.flow.teacher)

    async def open(self, opened: Iterable[TaskOpened]) -> None:
        """Opens tasks that are journaled."""
        for one in opened:
            stream, task = self._place(one)
            if stream is None:
                continue
            await self._steady(lambda _, s=stream, t=task: s.open(t), stream.flow.teacher)

    async def cancel(self, opened: Iterable[TaskOpened]) -> None:
        """Takes tasks back whose attempt was given up."""
        listed = list(opened)
        for one in listed:
            stream, _ = self._place(one)
            if stream is None:
                continue
            await self._steady(lambda _, s=stream, i=one.task_id: s.cancel(i), stream.flow.teacher)
        if listed:
            await self._journal.write(*(TaskEnded(one.task_id, SUPERSEDED) for one in listed))

    async def give_up(self, rollout: RolloutId, error: PreceptorError) -> None:
        """A rollout that failed for good is left out of its step, or ends the run: see `Failures`."""
        unended = self._unended(lambda task: RolloutKey.of(task.rollout) == RolloutKey.of(rollout))
        await self._failures.absorb(rollout, error)
        await self.cancel(unended)
        self._pulse.beat()

    async def drop(self, rollouts: Iterable[RolloutId]) -> None:
        """Attempts that are too old do not count any more."""
        gone = set(rollouts)
        unended = self._unended(lambda task: task.rollout in gone)
        await self._journal.write(*(RolloutDropped(rollout) for rollout in gone))
        self._hooks.reached("rollouts dropped")
        await self.cancel(unended)

    async def cancel_all(self) -> None:
        """At the end of a run: nobody waits for what is still open."""
        await self.cancel(self._unended(lambda _: True))

    async def wait(self, names: Iterable[str]) -> None:
        """Returns when these tasks have ended; gives up when nothing has arrived for the deadline."""
        waiting, tasks = set(names), self._journal.state.tasks

        def done() -> bool:
            waiting.difference_update([name for name in waiting if name not in tasks or tasks[name].ended])
            return not waiting

        await self._pulse.until(done, self._deadline_s, lambda: self._stalled(waiting))

    async def run(self) -> None:
        """Reads results and keeps tasks alive until it is cancelled."""
        if not self._streams:
            await asyncio.Event().wait()  # nobody scores: there is nothing to read
        await together(self._keep_alive(), *(self._read(stream) for stream in self._streams.values()))

    # ---------------------------------------------------------------- results

    async def _read(self, stream: ScoreStream) -> None:
        while True:
            taken = await self._steady(lambda _: stream.take(timeout_s=READ_S), stream.flow.teacher)
            if not taken.deliveries and taken.position == OUT_START:
                continue
            self._hooks.reached("rows read")
            await self._journal.write(*_records(taken, stream))
            self._hooks.reached("rows journaled")
            await self._steady(lambda _, t=taken: stream.acknowledge(t), stream.flow.teacher)
            self._hooks.reached("rows deleted")
            for delivery in taken.deliveries:
                await self._check(delivery, stream.flow)
            self._pulse.beat()

    async def _check(self, delivery: Delivery, flow: Flow) -> None:
        if delivery.envelope.HasField("error"):
            error = error_of(delivery.envelope.error)
            task = self._journal.state.tasks.get(delivery.task_id)
            if task is None or task.ended:
                return  # nobody waits for it any more
            told = type(error)(
                f"teacher {flow.teacher} gave up {delivery.task_id}: {error.message}",
                field=error.field,
                value=error.value,
                limit=error.limit,
                hint=error.hint or f"see the dead letters of job {flow.job}; replay them, then go on with --resume",
            )
            await self.give_up(task.opened.rollout, told)

    def _stalled(self, waiting: set[str]) -> PreceptorError:
        names = sorted({self._journal.state.tasks[name].opened.rollout.run for name in waiting})
        models = ", ".join(sorted(self._streams))
        return DeadlineExceeded(
            f"no score arrived for {self._deadline_s:g} s while {len(waiting)} tasks of {', '.join(names)} were open",
            field="teacher",
            value=models,
            limit=f"{self._deadline_s:g} s",
            hint=f"see that a teacher service that serves {models} runs against this queue, then go on with --resume",
        )

    # ---------------------------------------------------------------- keeping alive

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._repoke_s)
            for stream in self._streams.values():
                await self._steady(lambda _, s=stream: s.poke_all(), stream.flow.teacher)
                for task_id, next_row in stream.open_tasks.items():
                    if self._is_stuck(task_id, next_row):
                        await self._steady(lambda _, s=stream, t=task_id: self._revive(s, t), stream.flow.teacher)

    def _is_stuck(self, task_id: str, next_row: int) -> bool:
        """No row for several rounds, although the rollout is closed."""
        row, ticks = self._quiet.get(task_id, (-1, 0))
        self._quiet[task_id] = (next_row, ticks + 1 if row == next_row else 0)
        task = self._journal.state.tasks.get(task_id)
        return self._quiet[task_id][1] >= STUCK_TICKS and task is not None and self._is_closed(task)

    def _is_closed(self, task: TaskProgress) -> bool:
        closed = self._journal.state.closed.get(RolloutKey.of(task.opened.rollout))
        return closed is not None and closed.rollout == task.opened.rollout

    async def _revive(self, stream: ScoreStream, task_id: str) -> None:
        """Asks again with the ids inside the task where its log was lost: the journal has the whole rollout."""
        progress = self._journal.state.tasks[task_id]
        rollout = self._rollout(progress)
        log = LogName.of(stream.flow.tenant, stream.flow.job, rollout.id)
        view = await self._queue.read(log, rollout.sequence.row_count)
        if view.closed and view.length >= rollout.sequence.row_count:
            return  # the log is whole: somebody is only slow
        first = progress.rows[0].payload if progress.rows else b""
        task = inline_task(self._place(progress.opened)[1], rollout, first)
        await stream.resume(task, progress.next_row)
        await self._queue.reopen(stream.flow, task, progress.next_row)

    def _rollout(self, task: TaskProgress) -> Rollout:
        closed = self._journal.state.closed[RolloutKey.of(task.opened.rollout)]
        return rollout_from_proto(rollout_pb2.RolloutResult.FromString(closed.payload))

    # ---------------------------------------------------------------- shared

    def _stream(self, model: str) -> ScoreStream:
        position = self._journal.state.out_positions.get(model, OUT_START)
        return ScoreStream(self._queue, Flow(model, self._plan.tenant, self._plan.run), position)

    def _unended(self, belongs: Callable[[TaskOpened], bool]) -> list[TaskOpened]:
        return [task.opened for task in self._journal.state.tasks.values() if not task.ended and belongs(task.opened)]

    def _place(self, opened: TaskOpened) -> tuple[ScoreStream | None, teacher_pb2.ScoreTask]:
        """The task and the stream of its results; verdicts come without one."""
        task = teacher_pb2.ScoreTask.FromString(opened.payload)
        return (None if task.HasField("grade") else self._streams[task.teacher.teacher]), task

    async def _steady(self, attempt: Callable[[float], Awaitable[T]], model: str) -> T:
        return await persist(attempt, f"the queue of teacher {model}", self._deadline_s)


def _records(taken: Taken, stream: ScoreStream) -> list[JournalRecord]:
    """Rows, and how far the stream has been dealt with. A task that failed stays open: whoever resumes asks for it again."""
    position = stream.position if taken.position == OUT_START else taken.position
    rows: list[JournalRecord] = [
        RowsReceived(
            delivery.task_id,
            stream.flow.teacher,
            position,
            delivery.start,
            delivery.end,
            delivery.finished,
            delivery.envelope.SerializeToString(deterministic=True),
        )
        for delivery in taken.deliveries
        if not delivery.envelope.HasField("error")
    ]
    return [*rows, OutPosition(stream.flow.teacher, position)]
