"""One life of a learner: its parts put together, and what each stage does."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from preceptor.config.settings import ClientSettings
from preceptor.errors import Conflict
from preceptor.journal import LearnerJournal, RolloutReleased, RunEnded, StepApplied, StepDurable
from preceptor.learner.ending import AlarmBoard, figures_of, is_plateau
from preceptor.learner.evaluation import Evaluator, render
from preceptor.learner.events import Event, EventLog, StepTimes
from preceptor.learner.failures import Failures
from preceptor.learner.generation import Generation
from preceptor.learner.grades import GradeDesk
from preceptor.learner.handshake import Agreed
from preceptor.learner.hooks import Hooks
from preceptor.learner.join import batch_of
from preceptor.learner.lanes import Lanes
from preceptor.learner.plan import Slot
from preceptor.learner.ports import Ports, RolloutPort
from preceptor.learner.receipts import receipts_of
from preceptor.learner.requests import prompt_taken
from preceptor.learner.run_folder import RunFolder
from preceptor.learner.scores import ScoreDesk
from preceptor.learner.spending import spent_on
from preceptor.learner.stages import Lane, Memory, Stage, Work, last_step, next_work, too_old, unscored
from preceptor.learner.student import Student
from preceptor.learner.tally import tally_of
from preceptor.learner.teaching import Teaching
from preceptor.learner.waits import beside
from preceptor.learner.weights import Weights
from preceptor.queue.learner import REPOKE_S

CONNECT_S = 20.0
ALARM = "alarm: "
"""What the reason of an end by alarm begins with."""


@dataclass(frozen=True, slots=True)
class Patiences:
    """How long a learner waits for what."""

    deadline_s: float = ClientSettings.model_fields["deadline_s"].default  # without anything having moved
    connect_s: float = CONNECT_S  # for the first answer of each service
    repoke_s: float = REPOKE_S


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished run came to. `ended` says why it did not take all its steps; `is_alarm`: because something went wrong."""

    run: str
    steps: int
    seconds: float
    accuracy_before: float | None
    accuracy_after: float | None
    ended: str = ""
    is_alarm: bool = False


class Session:
    """One life of a learner."""

    def __init__(
        self,
        ports: Ports,
        folder: RunFolder,
        hooks: Hooks,
        patiences: Patiences,
        agreed: Agreed,
        journal: LearnerJournal,
        events: EventLog,
    ) -> None:
        plan, deadline_s = agreed.plan, patiences.deadline_s
        self._plan, self._ports, self._journal, self._events, self._hooks = plan, ports, journal, events, hooks
        self._folder, self._deadline_s, self._tokenizer_size = folder, deadline_s, agreed.tokenizer_size
        self._student = Student(ports.student, journal, plan, hooks, deadline_s=deadline_s)
        self._weights = Weights(ports.rollout, self._student, journal, plan, hooks, deadline_s=deadline_s)
        failures = Failures(journal, plan, hooks, events.skipped)
        self._desk = ScoreDesk(ports.queue, journal, plan, failures, hooks, deadline_s=deadline_s, repoke_s=patiences.repoke_s)
        digest = agreed.tokenizer_sha256
        self._teaching = Teaching(ports, self._student, journal, plan, hooks, digest=digest, deadline_s=deadline_s)
        self._generation = Generation(
            self._port_of,
            journal,
            plan,
            self._desk,
            self._weights,
            hooks,
            terms_of=self._teaching.terms_of,
            deadline_s=deadline_s,
        )
        self._grades = GradeDesk(ports, journal, plan, self._desk, hooks, deadline_s=deadline_s)
        self._evaluator = Evaluator(ports.rollout, plan, self._weights, deadline_s)
        self._memory = Memory(evaluated=set(events.evaluated))
        self._alarms = AlarmBoard.of(plan.compiled.recipe.alarms)
        self._times: dict[int, StepTimes] = defaultdict(StepTimes)
        self._rows_before = {index: self._rows_scored(index) for index in {key.step for key in journal.state.closed}}
        self._lanes = Lanes(self._next_work, self._do)
        self._idle_before: dict[Lane, float] = dict.fromkeys(Lane, 0.0)
        self._stages: dict[Stage, Callable[[int], Awaitable[None]]] = {
            Stage.WEIGHTS: self._bring_weights,
            Stage.EVALUATE: self._evaluate,
            Stage.PROMPTS: self._take_prompts,
            Stage.COLLECT: self._collect,
            Stage.GRADE: self._grade,
            Stage.CHECKPOINT: self._checkpoint,
            Stage.PUBLISH: self._publish,
            Stage.SIFT: self._sift,
            Stage.REREAD: self._reread,
            Stage.SCORES: self._wait_for_scores,
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
        for step in range(1, self._journal.state.applied_step + 1):
            if step in self._events.steps:
                self._alarms.take(figures_of(self._plan, self._events.steps[step]))
        await self._desk.resume()
        await beside(self._desk.run(), self._all_stages())
        return self._finish(time.monotonic() - began)

    async def _all_stages(self) -> None:
        await self._lanes.run()
        await self._desk.cancel_all()

    def _next_work(self, lane: Lane) -> Work:
        self._memory.published_step = self._weights.published_step
        return next_work(lane, self._journal.state, self._plan, self._memory)

    async def _do(self, work: Work) -> None:
        await self._stages[work.stage](work.index)

    def _finish(self, took_s: float) -> Summary:
        known, ended = self._events.evaluated, self._journal.state.ended
        step = last_step(self._journal.state, self._plan)
        why = ended.why if ended else ""
        is_alarm = why.startswith(ALARM)
        summary = Summary(self._plan.run, step, took_s, known.get(0), known.get(step), why, is_alarm)
        told = {
            "run": summary.run,
            "recipe": self._plan.compiled.recipe.name,
            "control": self._plan.control,
            "steps": summary.steps,
            "ended": summary.ended,
            "accuracy_before": summary.accuracy_before,
            "accuracy_after": summary.accuracy_after,
            "accuracies": {str(step): accuracy for step, accuracy in sorted(known.items())},
        }
        self._folder.write_summary(told)
        self._events.finished(step=summary.steps, seconds=took_s, accuracy=summary.accuracy_after, ended=why)
        return summary

    # ---------------------------------------------------------------- generating

    async def _bring_weights(self, index: int) -> None:
        with self._timed(index, "publish"):
            loaded_step = await self._weights.bring_newest()
            await self._teaching.bring_copies()
            self._memory.loaded_step = loaded_step

    async def _evaluate(self, index: int) -> None:
        self._events.evaluation(index, await self._evaluator.evaluate(index))
        rule = self._plan.compiled.recipe.schedule.early_stop
        accuracies = [accuracy for step, accuracy in sorted(self._events.evaluated.items()) if step <= index]
        if rule is not None and index < self._plan.steps and is_plateau(accuracies, rule):
            await self._end(index, f"no gain in {rule.evaluations} evaluations")
        self._memory.evaluated.add(index)

    async def _take_prompts(self, index: int) -> None:
        prompts = self._plan.prompts_of(index)
        ids = await render(self._ports.rollout, [self._plan.prompts[prompt] for prompt in prompts], self._deadline_s)
        taken = (prompt_taken(self._plan, index, prompt, one) for prompt, one in zip(prompts, ids, strict=True))
        await self._journal.write(*taken)
        self._hooks.reached("prompts journaled")

    async def _collect(self, index: int) -> None:
        with self._timed(index, "generate"):
            await self._generation.collect(index)
        self._times[index].queue_depth = self._desk.depth

    # ---------------------------------------------------------------- scoring

    async def _grade(self, index: int) -> None:
        with self._timed(index, "score_wait"):
            await self._grades.grade(index)

    async def _reread(self, index: int) -> None:
        with self._timed(index, "score_wait"):
            await self._desk.open(await self._teaching.reread(index))

    async def _wait_for_scores(self, index: int) -> None:
        with self._timed(index, "score_wait"):
            await self._desk.wait(unscored(self._journal.state, self._plan, index))

    def _rows_scored(self, index: int) -> int:
        tasks = self._journal.state.tasks.values()
        return sum(task.next_row - task.opened.first_row for task in tasks if task.opened.rollout.step == index)

    # ---------------------------------------------------------------- training

    async def _checkpoint(self, index: int) -> None:
        durable = await self._student.checkpoint()
        self._hooks.reached("checkpoint written")
        if durable < index:
            raise Conflict("the student kept an older step than it applied", field="durable_step", value=durable, limit=index)
        await self._journal.write(StepDurable(durable))
        self._hooks.reached("durable journaled")
        await self._journal.compact()
        self._hooks.reached("journal compacted")

    async def _publish(self, step: int) -> None:
        with self._timed(self._journal.state.applied_step, "publish"):
            await self._weights.publish(step)

    async def _sift(self, index: int) -> None:
        await self._desk.drop(list(too_old(self._journal.state, self._plan, index)))

    async def _batch(self, index: int) -> None:
        await self._journal.write(batch_of(self._journal.state, self._plan, index, self._tokenizer_size))
        self._hooks.reached("batch journaled")

    async def _train(self, index: int) -> None:
        batch = self._journal.state.batches[index + 1]
        with self._timed(index, "train"):
            reply = await self._student.step(batch)
        event = self._told(index, reply.metrics)
        self._hooks.reached("step told")
        skipped = (key for key in self._journal.state.skipped if key.step == index)
        done = [*batch.rollouts, *(self._plan.attempt(key, 0) for key in skipped)]
        ended = self._alarmed(batch.step, event)
        await self._journal.write(StepApplied(batch.step, batch.digest), *map(RolloutReleased, done), *ended)
        self._hooks.reached("step journaled")

    def _told(self, index: int, metrics: Mapping[str, float]) -> Event:
        """The event of a step: everything that is known of it before it is forgotten."""
        state, times = self._journal.state, self._times.pop(index, StepTimes())
        times.tokens_generated = self._generation.tokens.pop(index, 0)
        times.rows_scored = self._rows_scored(index) - self._rows_before.pop(index, 0)
        times.idle_s = {lane: idle_s - self._idle_before[lane] for lane, idle_s in self._lanes.idle_s.items()}
        self._idle_before = dict(self._lanes.idle_s)
        tally, spent = tally_of(state, self._plan, index), spent_on(state, self._plan, index)
        receipts = receipts_of(state, self._plan, index)
        return self._events.step(index + 1, times, metrics, tally, spent, receipts)

    def _alarmed(self, step: int, event: Event) -> list[RunEnded]:
        fired = self._alarms.take(figures_of(self._plan, event))
        for alarm in fired:
            self._events.alarm(step, alarm)
        return [RunEnded(step, f"{ALARM}{alarm.sentence}") for alarm in fired if alarm.rule.action == "stop"][:1]

    # ---------------------------------------------------------------- shared

    async def _end(self, step: int, why: str) -> None:
        await self._journal.write(RunEnded(step, why))
        self._hooks.reached("end journaled")

    def _port_of(self, slot: Slot) -> RolloutPort:
        if slot.by_student:
            return self._ports.rollout
        return self._ports.writers[self._plan.compiled.recipe.teachers[slot.source.writer].model]

    @contextmanager
    def _timed(self, index: int, side: str) -> Generator[None]:
        began = time.monotonic()
        yield
        self._times[index].seconds[side] += time.monotonic() - began
