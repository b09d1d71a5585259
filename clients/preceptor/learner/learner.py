"""`Learner`: one training run from its recipe to its last checkpoint, through any number of deaths.

It asks `next_stage` what to do and does that, again and again. Everything it must not forget is in its journal before anybody
else may forget it; everything else it finds out again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from preceptor.config.settings import ClientSettings
from preceptor.errors import Conflict
from preceptor.journal import LearnerJournal, RolloutReleased, StepApplied, StepDurable
from preceptor.learner.evaluation import Evaluator, render
from preceptor.learner.events import EventLog, StepTimes, Watch
from preceptor.learner.generation import Generation
from preceptor.learner.grades import GradeDesk
from preceptor.learner.handshake import Agreed, shake_hands
from preceptor.learner.hooks import Hooks, NoHooks
from preceptor.learner.join import batch_of
from preceptor.learner.plan import RunPlan, Slot
from preceptor.learner.ports import Ports, RolloutPort
from preceptor.learner.requests import prompt_taken
from preceptor.learner.run_folder import RunFolder
from preceptor.learner.scores import ScoreDesk
from preceptor.learner.spending import spent_on
from preceptor.learner.stages import Memory, Stage, next_stage, unscored
from preceptor.learner.student import Student
from preceptor.learner.waits import beside
from preceptor.learner.weights import Weights
from preceptor.queue.learner import REPOKE_S

CONNECT_S = 20.0


@dataclass(frozen=True, slots=True)
class Patiences:
    """How long a learner waits for what."""

    deadline_s: float = ClientSettings.model_fields["deadline_s"].default  # without anything having moved
    connect_s: float = CONNECT_S  # for the first answer of each service
    repoke_s: float = REPOKE_S


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished run came to."""

    run: str
    steps: int
    seconds: float
    accuracy_before: float | None
    accuracy_after: float | None


def _nobody(_: object) -> None:
    """Watches nothing."""


@dataclass(frozen=True, slots=True)
class Learner:
    """Ready to run. `run` may be called once; a new learner on the same folder goes on where this one stopped."""

    plan: RunPlan
    ports: Ports
    folder: RunFolder
    resume: bool = False
    watch: Watch = _nobody
    hooks: Hooks = field(default_factory=NoHooks)
    patiences: Patiences = field(default_factory=Patiences)

    async def run(self) -> Summary:
        """Returns when the last step is applied, durable and published."""
        resumed = self.folder.prepare(self.plan, resume=self.resume)
        async with await _opened(self.folder, self.plan.run) as journal:
            agreed = await shake_hands(self.ports, self.plan, connect_s=self.patiences.connect_s)
            events = EventLog(self.folder.events, self.watch)
            try:
                return await _Session(self, agreed, journal, events).run(resumed=resumed)
            finally:
                events.close()


async def _opened(folder: RunFolder, run: str) -> LearnerJournal:
    """The journal. It is opened in a thread that cannot be cancelled, so a learner that is stopped meanwhile gives it back."""
    opening = asyncio.ensure_future(LearnerJournal.open(folder.journal, run))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()
        raise


class _Session:
    """One life of a learner."""

    def __init__(self, learner: Learner, agreed: Agreed, journal: LearnerJournal, events: EventLog) -> None:
        plan, hooks, deadline_s = agreed.plan, learner.hooks, learner.patiences.deadline_s
        ports = learner.ports
        self._plan, self._ports, self._journal, self._events, self._hooks = plan, ports, journal, events, hooks
        self._folder, self._deadline_s, self._tokenizer_size = learner.folder, deadline_s, agreed.tokenizer_size
        self._student = Student(ports.student, journal, plan, hooks, deadline_s=deadline_s)
        self._weights = Weights(ports.rollout, self._student, journal, plan, hooks, deadline_s=deadline_s)
        self._desk = ScoreDesk(ports.queue, journal, plan, hooks, deadline_s=deadline_s, repoke_s=learner.patiences.repoke_s)
        self._generation = Generation(
            self._port_of,
            journal,
            plan,
            self._desk,
            self._weights,
            hooks,
            tokenizer_sha256=agreed.tokenizer_sha256,
            deadline_s=deadline_s,
        )
        self._grades = GradeDesk(ports.teacher, journal, plan, hooks, deadline_s=deadline_s)
        self._evaluator = Evaluator(ports.rollout, plan, self._weights, deadline_s)
        self._memory = Memory(evaluated=set(events.evaluated))
        self._times = StepTimes()
        self._stages: dict[Stage, Callable[[int], Awaitable[None]]] = {
            Stage.CHECKPOINT: self._checkpoint,
            Stage.WEIGHTS: self._bring_weights,
            Stage.EVALUATE: self._evaluate,
            Stage.PROMPTS: self._take_prompts,
            Stage.COLLECT: self._collect,
            Stage.BATCH: self._batch,
            Stage.TRAIN: self._train,
        }

    async def run(self, *, resumed: bool) -> Summary:
        """All stages until there is none left."""
        began = time.monotonic()
        await self._student.open()
        self._hooks.reached("run opened")
        self._events.started(
            run=self._plan.run,
            step=self._journal.state.applied_step,
            steps=self._plan.steps,
            recipe=self._plan.compiled.recipe.name,
            control=self._plan.control,
            resumed=resumed,
        )
        await self._desk.resume()
        await beside(self._desk.run(), self._all_stages())
        return self._finish(time.monotonic() - began)

    async def _all_stages(self) -> None:
        while (stage := next_stage(self._journal.state, self._plan, self._memory)) is not Stage.DONE:
            await self._stages[stage](self._journal.state.applied_step)

    def _finish(self, took_s: float) -> Summary:
        known = self._events.evaluated
        summary = Summary(self._plan.run, self._plan.steps, took_s, known.get(0), known.get(self._plan.steps))
        told = {
            "run": summary.run,
            "recipe": self._plan.compiled.recipe.name,
            "control": self._plan.control,
            "steps": summary.steps,
            "accuracy_before": summary.accuracy_before,
            "accuracy_after": summary.accuracy_after,
            "accuracies": {str(step): accuracy for step, accuracy in sorted(known.items())},
        }
        self._folder.write_summary(told)
        self._events.finished(step=summary.steps, seconds=took_s, accuracy=summary.accuracy_after)
        return summary

    # ---------------------------------------------------------------- stages

    async def _checkpoint(self, index: int) -> None:
        durable = await self._student.checkpoint()
        self._hooks.reached("checkpoint written")
        if durable < index:
            raise Conflict("the student kept an older step than it applied", field="durable_step", value=durable, limit=index)
        await self._journal.write(StepDurable(durable))
        self._hooks.reached("durable journaled")
        await self._journal.compact()
        self._hooks.reached("journal compacted")

    async def _bring_weights(self, index: int) -> None:
        with self._timed("publish"):
            step = self._plan.weights_for(index)
            await self._weights.bring(step)
            self._memory.loaded_step = step

    async def _evaluate(self, index: int) -> None:
        self._events.evaluation(index, await self._evaluator.evaluate(index))
        self._memory.evaluated.add(index)

    async def _take_prompts(self, index: int) -> None:
        prompts = self._plan.prompts_of(index)
        ids = await render(self._ports.rollout, [self._plan.prompts[prompt] for prompt in prompts], self._deadline_s)
        taken = (prompt_taken(self._plan, index, prompt, one) for prompt, one in zip(prompts, ids, strict=True))
        await self._journal.write(*taken)
        self._hooks.reached("prompts journaled")

    async def _collect(self, index: int) -> None:
        tokens, rows = self._generation.tokens, self._rows_scored(index)
        with self._timed("generate"):
            await self._generation.collect(index)
        self._times.queue_depth = self._desk.depth
        with self._timed("score_wait"):
            await self._grades.grade(index)
            await self._desk.wait(unscored(self._journal.state, self._plan, index))
        self._times.tokens_generated += self._generation.tokens - tokens
        self._times.rows_scored += self._rows_scored(index) - rows

    def _rows_scored(self, index: int) -> int:
        tasks = self._journal.state.tasks.values()
        return sum(task.next_row - task.opened.first_row for task in tasks if task.opened.rollout.step == index)

    async def _batch(self, index: int) -> None:
        await self._journal.write(batch_of(self._journal.state, self._plan, index, self._tokenizer_size))
        self._hooks.reached("batch journaled")

    async def _train(self, index: int) -> None:
        batch = self._journal.state.batches[index + 1]
        with self._timed("train"):
            reply = await self._student.step(batch)
        spent = spent_on(self._journal.state, self._plan, index)
        self._events.step(batch.step, self._plan.weights_for(index), self._times, reply.metrics, spent)
        self._hooks.reached("step told")
        released = (RolloutReleased(rollout) for rollout in batch.rollouts)
        await self._journal.write(StepApplied(batch.step, batch.digest), *released)
        self._times = StepTimes()
        self._hooks.reached("step journaled")

    # ---------------------------------------------------------------- shared

    def _port_of(self, slot: Slot) -> RolloutPort:
        if slot.by_student:
            return self._ports.rollout
        return self._ports.writers[self._plan.compiled.recipe.teachers[slot.source.writer].model]

    @contextmanager
    def _timed(self, side: str) -> Generator[None]:
        began = time.monotonic()
        yield
        self._times.seconds[side] += time.monotonic() - began
