"""Verdicts on whole rollouts: asked of graders once a prompt's group is closed, and journaled like rows.

A grade is a task without rows, in the journal alone; those of a group are one request, which goes to the service or, as a task of
texts, through the queue (`grade_port`). Its record is there before it is asked for, and its verdict ends it, so a learner that
dies asks again for what has no verdict and pays for nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from preceptor import wire
from preceptor.error_details import error_of
from preceptor.errors import BudgetSpent, Corrupt
from preceptor.journal import LearnerJournal, RolloutKey, RowsReceived, TaskOpened
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan
from preceptor.learner.ports import Ports
from preceptor.learner.requests import SCHEMA, grade_name
from preceptor.learner.scores import ScoreDesk
from preceptor.learner.stages import closed_rollouts
from preceptor.learner.steps import Response, responses_with_rows
from preceptor.learner.waits import persist, together
from preceptor.queue.types import OUT_START
from preceptor.recipes import TeacherPlan
from preceptor.recipes.ops.reward import GROUPING
from preceptor_proto.v1 import rollout_pb2, teacher_pb2

GROUPS_AT_ONCE = 8


class GradeDesk:
    """Asks for the verdicts of a run."""

    def __init__(
        self, ports: Ports, journal: LearnerJournal, plan: RunPlan, desk: ScoreDesk, hooks: Hooks, *, deadline_s: float
    ) -> None:
        self._port, self._rollout = ports.teacher, ports.rollout
        self._journal, self._plan, self._desk, self._hooks = journal, plan, desk, hooks
        self._deadline_s = deadline_s
        self._room = asyncio.Semaphore(GROUPS_AT_ONCE)

    async def grade(self, index: int) -> None:
        """Returns when every closed rollout of the step has its verdicts. Each group is one request."""
        groups: dict[tuple[str, int], tuple[TeacherPlan, list[TaskOpened]]] = {}
        for closed in closed_rollouts(self._journal.state, self._plan, index):
            for grader in self._plan.slot_of(closed.rollout.sample).graders:
                task = self._journal.state.tasks[grade_name(closed.rollout, grader)].opened
                groups.setdefault((grader.name, closed.rollout.prompt), (grader, []))[1].append(task)
        await together(*(self._grade(grader, tasks) for grader, tasks in groups.values() if any(self._waiting(tasks))))

    async def _grade(self, grader: TeacherPlan, tasks: Sequence[TaskOpened]) -> None:
        async with self._room:
            await persist(lambda left_s: self._ask(grader, tasks, left_s), f"grading by {grader.model}", self._deadline_s)

    async def _ask(self, grader: TeacherPlan, tasks: Sequence[TaskOpened], left_s: float) -> None:
        """What has a verdict is kept, also where another item of the group failed."""
        waiting = list(self._waiting(tasks))
        if not waiting:
            return  # what was left has been given up
        asked = self._compared(grader, tasks) or waiting
        responses = await self._responses(grader, asked, left_s)
        request = teacher_pb2.GradeRequest(
            teacher=wire.choice_to_proto(grader.model),
            spec=teacher_pb2.ScoreTask.FromString(tasks[0].payload).grade,
            items=[self._item(task, response) for task, response in zip(asked, responses, strict=True)],
            job=self._plan.run,
        )
        reply = await self._port.grade(request, deadline_s=left_s)
        if len(reply.results) != len(asked):
            raise Corrupt("another number of verdicts than items", field="results", value=len(reply.results), limit=len(asked))
        self._hooks.reached("verdict read")
        told = [one for one in zip(asked, responses, reply.results, strict=True) if one[0] in waiting]
        placed = [(task, response.placed(result)) for task, response, result in told]
        good = [(task, verdict) for task, verdict in placed if verdict is not None]
        await self._journal.write(*(self._record(task, grader.model, verdict) for task, verdict in good))
        self._hooks.reached("verdict journaled")
        failed = [(task, error_of(result.error)) for task, _, result in told if result.HasField("error")]
        for task, error in failed:
            if isinstance(error, BudgetSpent):
                raise error  # the next rollouts would fare no better: the run stops, and goes on where it was
            if not error.retryable:
                await self._desk.give_up(task.rollout, error)
        if passing := [error for _, error in failed if error.retryable]:
            raise passing[0]

    def _waiting(self, tasks: Sequence[TaskOpened]) -> Iterator[TaskOpened]:
        """Those without a verdict."""
        return (task for task in tasks if not self._journal.state.tasks[task.task_id].ended)

    def _compared(self, grader: TeacherPlan, tasks: Sequence[TaskOpened]) -> list[TaskOpened]:
        """All that a grader of groups holds against each other, also where a part of them had its verdict before."""
        if grader.grading is None or grader.grading.grader not in GROUPING:
            return []
        return [task for task in tasks if RolloutKey.of(task.rollout) in self._journal.state.closed]

    async def _responses(self, grader: TeacherPlan, tasks: Sequence[TaskOpened], left_s: float) -> list[Response]:
        """What the tasks are about. Where steps are judged, what each token stands for is known before anything is paid."""
        results = [self._journal.state.closed[RolloutKey.of(task.rollout)].payload for task in tasks]
        rollouts = [rollout_pb2.RolloutResult.FromString(payload) for payload in results]
        if grader.grading is None or not grader.grading.steps:
            return [Response(one.text) for one in rollouts]
        return await responses_with_rows(self._rollout, rollouts, left_s)

    def _item(self, task: TaskOpened, response: Response) -> teacher_pb2.GradeItem:
        number = task.rollout.prompt
        prompt, answer = self._plan.prompts[number], self._plan.answer_to(number)
        group = f"{task.rollout.step}.{number}"  # a prompt that comes again is another group
        return teacher_pb2.GradeItem(
            prompt=prompt, response=response.text, reference=answer, group=group, unsure_at=response.unsure_at
        )

    def _record(self, task: TaskOpened, model: str, verdict: teacher_pb2.Verdict) -> RowsReceived:
        envelope = teacher_pb2.Envelope(
            schema=SCHEMA, task_id=task.task_id, verdict=verdict, receipt=verdict.receipt, finished=True
        )
        position = self._journal.state.out_positions.get(model, OUT_START)
        payload = envelope.SerializeToString(deterministic=True)
        return RowsReceived(task.task_id, model, position, task.first_row, task.first_row, True, payload)
