"""What a run has done, folded from its journal: a pure function of the records, in memory only.

`replay` reads a journal into a `LearnerState`; `apply` adds one record; `records_of` writes the state down again, which is
what compaction keeps. Replaying those records gives an equal state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from preceptor.errors import Conflict, Gap
from preceptor.journal.records import (
    AttemptStarted,
    BatchSent,
    JournalRecord,
    OutPosition,
    PromptTaken,
    RolloutClosed,
    RolloutDropped,
    RolloutReleased,
    RolloutSkipped,
    RowsReceived,
    RunEnded,
    StepApplied,
    StepDurable,
    TaskEnded,
    TaskOpened,
)
from preceptor.names import batch_digest
from preceptor.types import RolloutId

FINISHED = "finished"
DROPPED, SKIPPED = "dropped", "skipped"


class PromptKey(NamedTuple):
    """One prompt of one step."""

    step: int
    prompt: int


class RolloutKey(NamedTuple):
    """One rollout, whatever the attempt."""

    step: int
    prompt: int
    sample: int

    @classmethod
    def of(cls, rollout: RolloutId) -> RolloutKey:
        return cls(rollout.step, rollout.prompt, rollout.sample)


@dataclass(slots=True)
class TaskProgress:
    """One score task: how it was opened, the rows that arrived, and why no more are expected (empty: they are)."""

    opened: TaskOpened
    rows: list[RowsReceived] = field(default_factory=list[RowsReceived])
    ended: str = ""

    @property
    def next_row(self) -> int:
        return self.rows[-1].end if self.rows else self.opened.first_row


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task to open again: under the same id, from this row, naming the model of its first rows (an Envelope) if any."""

    opened: TaskOpened
    next_row: int
    first_rows: bytes


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What a restarted learner does first."""

    open_tasks: tuple[OpenTask, ...]
    to_cancel: tuple[TaskOpened, ...]  # open tasks of attempts that lost
    out_positions: dict[str, str]
    open_attempts: tuple[RolloutId, ...]  # asked for and not closed: ask again under the next attempt
    applied_step: int
    durable_step: int
    resend: tuple[BatchSent, ...]  # from durable_step + 1, byte for byte


@dataclass(slots=True)
class LearnerState:
    """Everything of one run since its durable step. Attributes are for reading; `apply` is the only way to change them."""

    run: str
    prompts: dict[PromptKey, PromptTaken] = field(default_factory=dict[PromptKey, PromptTaken])
    attempts: dict[RolloutKey, list[RolloutId]] = field(default_factory=dict[RolloutKey, list[RolloutId]])
    closed: dict[RolloutKey, RolloutClosed] = field(default_factory=dict[RolloutKey, RolloutClosed])
    dropped: dict[RolloutKey, list[RolloutId]] = field(default_factory=dict[RolloutKey, list[RolloutId]])
    skipped: dict[RolloutKey, RolloutSkipped] = field(default_factory=dict[RolloutKey, RolloutSkipped])
    released: dict[PromptKey, set[int]] = field(default_factory=dict[PromptKey, set[int]])
    tasks: dict[str, TaskProgress] = field(default_factory=dict[str, TaskProgress])
    out_positions: dict[str, str] = field(default_factory=dict[str, str])
    batches: dict[int, BatchSent] = field(default_factory=dict[int, BatchSent])
    applied_step: int = 0
    durable_step: int = 0
    ended: RunEnded | None = None

    def apply(self, record: JournalRecord) -> None:
        """Add one record. A record that contradicts the state raises and changes nothing."""
        match record:
            case PromptTaken():
                self.prompts.setdefault(PromptKey(record.step, record.prompt), record)
            case AttemptStarted() | RolloutClosed() | RolloutDropped() | RolloutSkipped() | RolloutReleased():
                self._of_rollout(record)
            case TaskOpened():
                self._open(record)
            case RowsReceived():
                self._receive(record)
            case OutPosition():
                self.out_positions[record.teacher] = record.position
            case TaskEnded():
                if record.task_id in self.tasks:
                    self.tasks[record.task_id].ended = record.reason
            case BatchSent():
                self._send(record)
            case StepApplied():
                self._applied(record)
            case StepDurable():
                self._durable(record.step)
            case RunEnded():
                self.ended = self.ended or record

    def is_settled(self, key: RolloutKey) -> bool:
        """Whether nobody has to draw this rollout any more."""
        return key in self.closed or key in self.skipped

    def resume_point(self) -> ResumePoint:
        """Where a learner that starts with this state goes on."""
        running = [task for task in self.tasks.values() if not task.ended]
        lost = [task for task in running if self._lost(task.opened.rollout)]
        return ResumePoint(
            open_tasks=tuple(_open_task(task) for task in running if not self._lost(task.opened.rollout)),
            to_cancel=tuple(task.opened for task in lost),
            out_positions=dict(self.out_positions),
            open_attempts=tuple(attempts[-1] for key, attempts in self.attempts.items() if not self.is_settled(key)),
            applied_step=self.applied_step,
            durable_step=self.durable_step,
            resend=tuple(self.batches[step] for step in sorted(self.batches)),
        )

    def _lost(self, rollout: RolloutId) -> bool:
        winner = self.closed.get(RolloutKey.of(rollout))
        return winner is not None and winner.rollout != rollout

    # ------------------------------------------------------------ one record each

    def _of_rollout(self, record: AttemptStarted | RolloutClosed | RolloutDropped | RolloutSkipped | RolloutReleased) -> None:
        self._check_run(record.rollout.run)
        match record:
            case AttemptStarted():
                self._start(record.rollout)
            case RolloutClosed():
                self._close(record)
            case RolloutDropped():
                self._drop(record.rollout)
            case RolloutSkipped():
                self._skip(record)
            case RolloutReleased():
                self._release(RolloutKey.of(record.rollout))

    def _start(self, rollout: RolloutId) -> None:
        attempts = self.attempts.setdefault(RolloutKey.of(rollout), [])
        if rollout not in attempts:
            attempts.append(rollout)

    def _close(self, record: RolloutClosed) -> None:
        self._start(record.rollout)
        key = RolloutKey.of(record.rollout)
        if record.rollout not in self.dropped.get(key, ()) and not self.is_settled(key):
            self.closed[key] = record

    def _drop(self, rollout: RolloutId) -> None:
        self._start(rollout)
        key = RolloutKey.of(rollout)
        gone = self.dropped.setdefault(key, [])
        if rollout not in gone:
            gone.append(rollout)
        if key in self.closed and self.closed[key].rollout == rollout:
            del self.closed[key]
        self._end_tasks([task for task in self._tasks_of(key) if task.opened.rollout == rollout], DROPPED)

    def _skip(self, record: RolloutSkipped) -> None:
        key = RolloutKey.of(record.rollout)
        self.skipped.setdefault(key, record)
        self.closed.pop(key, None)
        self._end_tasks(self._tasks_of(key), SKIPPED)

    def _tasks_of(self, key: RolloutKey) -> list[TaskProgress]:
        return [task for task in self.tasks.values() if RolloutKey.of(task.opened.rollout) == key]

    def _end_tasks(self, tasks: Iterable[TaskProgress], why: str) -> None:
        for task in tasks:
            task.ended = task.ended or why

    def _open(self, record: TaskOpened) -> None:
        self._check_run(record.rollout.run)
        known = self.tasks.setdefault(record.task_id, TaskProgress(record))
        if known.opened != record:
            raise Conflict(f"task {record.task_id} was opened before with other content", field="task_id", value=record.task_id)

    def _receive(self, record: RowsReceived) -> None:
        task = self.tasks.get(record.task_id)
        if task is not None and not task.ended:  # else: released or cancelled while these rows were on their way
            if record.start != task.next_row or record.end < record.start:
                raise Gap(
                    f"rows {record.start}..{record.end} of task {record.task_id} are not its next ones",
                    field="start",
                    value=record.start,
                    limit=task.next_row,
                )
            task.rows.append(record)
            if record.finished:
                task.ended = FINISHED
        self.out_positions[record.teacher] = record.position

    def _send(self, record: BatchSent) -> None:
        self._check_run(record.run)
        if record.digest != batch_digest(record.micro_batches):
            raise _conflict(f"the digest of step {record.step} is not that of its bytes", record.digest)
        sent = self.batches.get(record.step)
        if sent is not None and sent != record:
            raise _conflict(f"step {record.step} was sent before with another batch", record.digest)
        if record.step > self.durable_step:
            self.batches[record.step] = record

    def _applied(self, record: StepApplied) -> None:
        if record.step <= self.durable_step:
            return
        sent = self.batches.get(record.step)
        if sent is None or sent.digest != record.digest:
            raise _conflict(f"step {record.step} was applied with another batch than was sent", record.digest)
        self.applied_step = max(self.applied_step, record.step)

    def _durable(self, step: int) -> None:
        self.durable_step = max(self.durable_step, step)
        self.applied_step = max(self.applied_step, step)
        for done in [batch for batch in self.batches.values() if batch.step <= self.durable_step]:
            del self.batches[done.step]
            for rollout in done.rollouts:
                self._release(RolloutKey.of(rollout))
        for key in [key for key in self.skipped if key.step < self.durable_step]:
            self._release(key)

    def _release(self, key: RolloutKey) -> None:
        self.attempts.pop(key, None)
        for held in (self.closed, self.dropped, self.skipped):
            held.pop(key, None)
        for task in self._tasks_of(key):
            del self.tasks[task.opened.task_id]
        prompt_key = PromptKey(key.step, key.prompt)
        prompt = self.prompts.get(prompt_key)
        if prompt is None:
            return
        gone = self.released.setdefault(prompt_key, set())
        gone.add(key.sample)
        if gone.issuperset(range(prompt.first_sample, prompt.first_sample + prompt.samples)):
            del self.prompts[prompt_key], self.released[prompt_key]

    def _check_run(self, run: str) -> None:
        if run != self.run:
            raise Conflict(f"this is the journal of run {self.run!r}", field="run", value=run, limit=self.run)


def replay(run: str, records: Iterable[JournalRecord]) -> LearnerState:
    """The state after all of these records."""
    state = LearnerState(run)
    for record in records:
        state.apply(record)
    return state


def records_of(state: LearnerState) -> Iterator[JournalRecord]:
    """The fewest records that replay to an equal state."""
    if state.durable_step:
        yield StepDurable(state.durable_step)
    yield from state.prompts.values()
    for (step, prompt), samples in state.released.items():
        yield from (RolloutReleased(RolloutId(state.run, step, prompt, sample)) for sample in sorted(samples))
    for attempts in state.attempts.values():
        yield from (AttemptStarted(rollout) for rollout in attempts)
    for attempts in state.dropped.values():
        yield from (RolloutDropped(rollout) for rollout in attempts)
    yield from state.skipped.values()
    yield from state.closed.values()
    for task in state.tasks.values():
        yield from _records_of_task(task)
    yield from (OutPosition(teacher, position) for teacher, position in state.out_positions.items())
    yield from state.batches.values()
    if state.applied_step > state.durable_step:
        yield StepApplied(state.applied_step, _applied_digest(state))
    if state.ended is not None:
        yield state.ended


def _records_of_task(task: TaskProgress) -> Iterator[JournalRecord]:
    yield task.opened
    yield from task.rows
    if task.ended:
        yield TaskEnded(task.opened.task_id, task.ended)


def _applied_digest(state: LearnerState) -> bytes:
    """The digest of the applied step. A step that is applied and not durable always has its batch: that is what is kept."""
    return state.batches[state.applied_step].digest


def _open_task(task: TaskProgress) -> OpenTask:
    return OpenTask(task.opened, task.next_row, task.rows[0].payload if task.rows else b"")


def _conflict(message: str, digest: bytes) -> Conflict:
    return Conflict(message, field="digest", value=digest.hex())
