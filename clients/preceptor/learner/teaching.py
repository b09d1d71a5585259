"""What score tasks are opened under: copies of the student that teach it, held by the teacher service, and teachers' views."""

from __future__ import annotations

import asyncio

from preceptor.journal import LearnerJournal, TaskOpened
from preceptor.learner.evaluation import render
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan
from preceptor.learner.ports import Ports
from preceptor.learner.requests import Terms, rereading_opened
from preceptor.learner.rereading import owed
from preceptor.learner.student import Student
from preceptor.learner.waits import persist
from preceptor.recipes import TeacherPlan
from preceptor_proto.v1 import common_pb2, teacher_pb2


class Teaching:
    """A teacher whose weights are the student's holds them before a task names them; the ones before are let go."""

    def __init__(
        self,
        ports: Ports,
        student: Student,
        journal: LearnerJournal,
        plan: RunPlan,
        hooks: Hooks,
        *,
        digest: bytes,
        deadline_s: float,
    ) -> None:
        self._ports, self._student, self._journal, self._plan, self._hooks = ports, student, journal, plan, hooks
        self._digest, self._deadline_s = digest, deadline_s
        self._held: dict[str, common_pb2.ModelRef] = {}
        self._views: dict[tuple[str, int], common_pb2.TokenIds] = {}
        self._of: int | None = None  # the step whose views are known
        self._turn = asyncio.Lock()  # no copy is let go between the choice of one and the record that names it

    async def bring_copies(self) -> None:
        """The teachers hold what was published last."""
        async with self._turn:
            await self._bring()

    async def reread(self, index: int) -> list[TaskOpened]:
        """The tasks of what is read again now that its group is finished, journaled and not yet opened."""
        rereadings = list(owed(self._journal.state, self._plan, index))
        contexts = await render(self._ports.rollout, [one.text for one in rereadings], self._deadline_s)
        async with self._turn:
            await self._bring()  # after a restart nobody has done that for a step that was drawn before
            terms = Terms(self._digest, dict(self._held))
            pairs = zip(rereadings, contexts, strict=True)
            opened = [rereading_opened(one.closed, one.scorer, context, terms) for one, context in pairs]
            await self._journal.write(*opened)
        self._hooks.reached("rereadings journaled")
        return opened

    async def _bring(self) -> None:
        for name, teacher in self._plan.compiled.teachers.items():
            if teacher.student_copy is not None and (newest := self._student.copies[name]) != self._held.get(name):
                await self._load(teacher, newest)
        if self._held:
            self._hooks.reached("copies loaded")

    async def terms_of(self, index: int) -> Terms:
        """What the tasks of a step say; views are rendered when the first of them is opened."""
        if self._of != index:
            self._views = await self._rendered(index)
            self._of = index
        return Terms(self._digest, dict(self._held), self._views)

    async def _load(self, teacher: TeacherPlan, model: common_pb2.ModelRef) -> None:
        request = teacher_pb2.LoadVersionRequest(teacher=teacher.model, model=model)
        await persist(
            lambda left_s: self._ports.teacher.load_version(request, deadline_s=left_s),
            f"loading a copy of the student at teacher {teacher.model}",
            self._deadline_s,
        )
        before = self._held.get(teacher.name)
        self._held[teacher.name] = model
        if before is not None and before not in self._held.values() and not self._named(before):
            drop = teacher_pb2.DropVersionRequest(teacher=teacher.model, model=before)
            await persist(
                lambda left_s: self._ports.teacher.drop_version(drop, deadline_s=left_s),
                f"dropping a copy of the student at teacher {teacher.model}",
                self._deadline_s,
            )

    def _named(self, model: common_pb2.ModelRef) -> bool:
        """Whether a task that still owes rows names these weights."""
        tasks = (task for task in self._journal.state.tasks.values() if not task.ended)
        return any(teacher_pb2.ScoreTask.FromString(task.opened.payload).teacher.exact == model for task in tasks)

    async def _rendered(self, index: int) -> dict[tuple[str, int], common_pb2.TokenIds]:
        prompts = sorted(self._plan.prompts_of(index))
        found: dict[tuple[str, int], common_pb2.TokenIds] = {}
        for name, texts in self._plan.views.items():
            if self._plan.compiled.teachers[name].feedback is not None:
                continue  # what it shows is not there yet
            ids = await render(self._ports.rollout, [texts[prompt] for prompt in prompts], self._deadline_s)
            found |= {(name, prompt): one for prompt, one in zip(prompts, ids, strict=True)}
        return found
