"""The journal of a run gives back the run: where it stood, what is open, and which bytes to send again."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from preceptor.errors import Conflict, Corrupt, Exhausted, Gap, PreceptorError, Unavailable
from preceptor.journal import (
    AttemptStarted,
    BatchSent,
    Entry,
    Journal,
    JournalRecord,
    LearnerJournal,
    LearnerState,
    OutPosition,
    PromptTaken,
    Record,
    RolloutClosed,
    RolloutDropped,
    RolloutKey,
    RolloutReleased,
    RolloutSkipped,
    RowsReceived,
    RunEnded,
    StepApplied,
    StepDurable,
    TaskEnded,
    TaskOpened,
    records_of,
    replay,
)
from preceptor.journal.records import KINDS, from_record, to_entry
from preceptor.names import batch_digest
from preceptor.types import RolloutId
from tests.unit.preceptor.journal.disks import FullDisk

RUN = "run-1"


def rollout(step: int = 1, prompt: int = 0, sample: int = 0, attempt: int = 0) -> RolloutId:
    return RolloutId(RUN, step, prompt, sample, attempt)


def task(name: str, of: RolloutId | None = None, first_row: int = 0) -> TaskOpened:
    return TaskOpened(name, of or rollout(), first_row, b"task " + name.encode())


def rows(name: str, start: int, end: int, position: str = "1-0", *, finished: bool = False) -> RowsReceived:
    return RowsReceived(name, "teacher", position, start, end, finished, b"%d..%d" % (start, end))


def batch(step: int, *rollouts: RolloutId, parts: tuple[bytes, ...] = (b"micro", b"batch")) -> BatchSent:
    return BatchSent(RUN, step, batch_digest(parts), "{}", rollouts, parts)


EVERY_KIND: tuple[JournalRecord, ...] = (
    PromptTaken(1, 2, 0, 4, b"\x00\xff"),
    AttemptStarted(rollout()),
    RolloutClosed(rollout(attempt=1), b"closed"),
    RolloutReleased(rollout(sample=3)),
    task("a", first_row=7),
    rows("a", 7, 9, finished=True),
    OutPosition("teacher", "5-1"),
    TaskEnded("a", "cancelled"),
    batch(1, rollout(), rollout(sample=1)),
    StepApplied(1, bytes(32)),
    StepDurable(1),
    RolloutDropped(rollout(attempt=2)),
    RolloutSkipped(rollout(sample=2), "the provider refuses it"),
    RunEnded(3, "no gain"),
)


def test_every_kind_has_a_sample_here() -> None:
    assert {type(record) for record in EVERY_KIND} == set(KINDS.values())


@pytest.mark.parametrize("record", EVERY_KIND, ids=lambda record: type(record).__name__)
def test_records_come_back_as_they_were(record: JournalRecord) -> None:
    entry = to_entry(record)
    assert from_record(Record(1, entry.kind, entry.payload)) == record


@pytest.mark.parametrize("record", EVERY_KIND, ids=lambda record: type(record).__name__)
def test_cut_or_longer_records_are_corrupt_and_named(record: JournalRecord) -> None:
    entry = to_entry(record)
    for payload in (*(entry.payload[:cut] for cut in range(len(entry.payload))), entry.payload + b"\x00"):
        with pytest.raises(Corrupt, match="record 12 "):
            from_record(Record(12, entry.kind, payload))


@given(st.integers(1, 255), st.binary(max_size=60))
def test_any_bytes_are_a_record_or_corrupt(kind: int, payload: bytes) -> None:
    try:
        record = from_record(Record(1, kind, payload))
    except Corrupt:
        return
    assert type(record) is KINDS[kind]


# ---------------------------------------------------------------- the fold


def test_the_first_close_of_a_rollout_wins_and_tasks_of_other_attempts_are_to_cancel() -> None:
    first, second = rollout(), rollout(attempt=1)
    state = replay(RUN, [AttemptStarted(first), task("t0", first), AttemptStarted(second), task("t1", second)])
    assert state.resume_point().open_attempts == (second,)
    state.apply(RolloutClosed(second, b"second"))
    state.apply(RolloutClosed(first, b"first, late"))
    assert state.closed[RolloutKey(1, 0, 0)].payload == b"second"
    resume = state.resume_point()
    assert resume.open_attempts == ()
    assert [opened.task_id for opened in resume.to_cancel] == ["t0"]
    assert [open_task.opened.task_id for open_task in resume.open_tasks] == ["t1"]


def test_rows_are_taken_at_the_next_row_only() -> None:
    state = replay(RUN, [task("a", first_row=4), rows("a", 4, 8, "1-0")])
    for wrong in (rows("a", 4, 8), rows("a", 6, 9), rows("a", 9, 10), rows("a", 8, 7)):
        before = replay(RUN, records_of(state))
        with pytest.raises(Gap) as caught:
            state.apply(wrong)
        assert caught.value.limit == "8"
        assert state == before
    state.apply(rows("a", 8, 10, "2-0", finished=True))
    assert state.out_positions == {"teacher": "2-0"}
    assert state.resume_point().open_tasks == ()


def test_an_open_task_is_resumed_under_its_id_from_its_next_row_with_its_first_rows() -> None:
    state = replay(RUN, [task("a"), task("b"), rows("a", 0, 3), rows("a", 3, 5, "2-0")])
    first, second = state.resume_point().open_tasks
    assert (first.opened, first.next_row, first.first_rows) == (task("a"), 5, b"0..3")
    assert (second.opened, second.next_row, second.first_rows) == (task("b"), 0, b"")


def test_rows_of_a_cancelled_or_unknown_task_only_move_the_position() -> None:
    state = replay(RUN, [task("a"), TaskEnded("a", "cancelled"), rows("a", 0, 3, "8-0"), rows("ghost", 5, 6, "9-0")])
    assert state.tasks["a"].rows == []
    assert state.out_positions == {"teacher": "9-0"}


def test_undurable_batches_are_sent_again_byte_for_byte_in_order() -> None:
    batches = [batch(step, rollout(step), parts=(b"%d" % step, bytes([step]))) for step in (1, 2, 3)]
    state = replay(RUN, [*batches, StepApplied(1, batches[0].digest), StepApplied(2, batches[1].digest), StepDurable(1)])
    resume = state.resume_point()
    assert resume.resend == tuple(batches[1:])
    assert (resume.applied_step, resume.durable_step) == (2, 1)


def test_one_step_has_one_batch() -> None:
    state = replay(RUN, [batch(1)])
    state.apply(batch(1))
    for wrong in (
        batch(1, parts=(b"other",)),
        replace(batch(2), digest=bytes(32)),
        StepApplied(1, bytes(32)),
        StepApplied(2, bytes(32)),
        replace(batch(2), run="run-2"),
        AttemptStarted(replace(rollout(), run="run-2")),
    ):
        with pytest.raises(Conflict):
            state.apply(wrong)
    assert state == replay(RUN, [batch(1)])


def test_a_durable_step_frees_what_fed_it_and_nothing_else() -> None:
    prompt = PromptTaken(1, 0, 0, 2, b"prompt")
    kept, done = rollout(sample=1), rollout(sample=0)
    state = replay(
        RUN,
        [
            prompt,
            *(AttemptStarted(each) for each in (done, kept)),
            *(RolloutClosed(each, b"closed") for each in (done, kept)),
            *(task(f"{each.sample}", each) for each in (done, kept)),
            *(rows(f"{each.sample}", 0, 2, finished=True) for each in (done, kept)),
            batch(1, done),
            StepDurable(1),
        ],
    )
    assert set(state.tasks) == {"1"}
    assert set(state.closed) == {RolloutKey.of(kept)}
    assert state.prompts
    assert state.released == {(1, 0): {0}}
    state.apply(RolloutReleased(kept))
    assert state == LearnerState(RUN, out_positions={"teacher": "1-0"}, applied_step=1, durable_step=1)


def test_what_is_dropped_is_asked_again_and_what_is_skipped_is_not_waited_for() -> None:
    records = [
        RolloutClosed(rollout(), b"old"),
        task("a"),
        task("b", rollout(sample=1)),
        RolloutClosed(rollout(sample=1), b"bad"),
    ]
    state = replay(RUN, [*records, RolloutDropped(rollout()), RolloutSkipped(rollout(sample=1), "refused")])
    assert not state.closed
    assert [state.tasks[name].ended for name in "ab"] == ["dropped", "skipped"]
    state.apply(RolloutClosed(rollout(), b"the same, late"))
    state.apply(RolloutClosed(rollout(sample=1, attempt=1), b"late"))
    assert not state.closed
    state.apply(RolloutClosed(rollout(attempt=1), b"new"))
    assert [one.payload for one in state.closed.values()] == [b"new"]
    state.apply(RolloutReleased(rollout()))
    state.apply(StepDurable(rollout().step + 1))
    assert state == LearnerState(RUN, applied_step=rollout().step + 1, durable_step=rollout().step + 1)


class FoldMachine(RuleBasedStateMachine):
    """Any history that the state accepts is kept by `records_of`, and by a journal that is compacted and reopened."""

    @initialize()
    def start(self) -> None:
        self.state = LearnerState(RUN)
        self.entries: list[Entry] = []
        self.step = 0

    def _try(self, record: JournalRecord) -> None:
        before = replay(RUN, records_of(self.state))
        try:
            self.state.apply(record)
        except PreceptorError:
            assert self.state == before
            return
        self.entries.append(to_entry(record))

    rollouts = st.builds(rollout, st.integers(1, 3), st.integers(0, 1), st.integers(0, 1), st.integers(0, 1))

    @rule(step=st.integers(1, 3), prompt=st.integers(0, 1))
    def take_prompt(self, step: int, prompt: int) -> None:
        self._try(PromptTaken(step, prompt, 0, 2, b"ids"))

    @rule(of=rollouts)
    def start_attempt(self, of: RolloutId) -> None:
        self._try(AttemptStarted(of))

    @rule(of=rollouts)
    def close(self, of: RolloutId) -> None:
        self._try(RolloutClosed(of, b"%d" % of.attempt))

    @rule(of=rollouts, first_row=st.integers(0, 2))
    def open(self, of: RolloutId, first_row: int) -> None:
        self._try(task(f"{of.step}{of.prompt}{of.sample}{of.attempt}", of, first_row))

    @precondition(lambda self: self.state.tasks)
    @rule(data=st.data(), count=st.integers(0, 3), shift=st.sampled_from([0, 0, 0, 0, -1, 1]), finished=st.booleans())
    def receive(self, data: st.DataObject, count: int, shift: int, finished: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.state.tasks)))
        start = self.state.tasks[name].next_row + shift
        self._try(rows(name, start, start + count, f"{len(self.entries)}-0", finished=finished))

    @precondition(lambda self: self.state.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._try(TaskEnded(data.draw(st.sampled_from(sorted(self.state.tasks))), "cancelled"))

    @rule(of=st.lists(rollouts, max_size=3))
    def send(self, of: list[RolloutId]) -> None:
        self.step += 1
        self._try(batch(self.step, *of, parts=(b"%d" % self.step,)))

    @rule(back=st.integers(0, 2))
    def applied(self, back: int) -> None:
        self._try(StepApplied(max(1, self.step - back), batch_digest([b"%d" % (self.step - back)])))

    @rule(back=st.integers(0, 2))
    def durable(self, back: int) -> None:
        self._try(StepDurable(max(0, self.step - back)))

    @rule(of=rollouts)
    def release(self, of: RolloutId) -> None:
        self._try(RolloutReleased(of))

    @rule(of=rollouts)
    def drop(self, of: RolloutId) -> None:
        self._try(RolloutDropped(of))

    @rule(of=rollouts)
    def skip(self, of: RolloutId) -> None:
        self._try(RolloutSkipped(of, "gone"))

    @rule(step=st.integers(1, 3))
    def end(self, step: int) -> None:
        self._try(RunEnded(step, "early"))

    @rule()
    def compact(self) -> None:
        self.entries = [to_entry(record) for record in records_of(self.state)]

    @invariant()
    def the_records_replay_to_the_state(self) -> None:
        records = [from_record(Record(i, entry.kind, entry.payload)) for i, entry in enumerate(self.entries)]
        assert replay(RUN, records) == self.state
        assert replay(RUN, records_of(self.state)) == self.state
        assert replay(RUN, records).resume_point() == self.state.resume_point()


FoldMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFold = FoldMachine.TestCase


# ---------------------------------------------------------------- on disk


async def test_a_restarted_learner_goes_on_where_it_was(tmp_path: Path) -> None:
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        await journal.write(PromptTaken(1, 0, 0, 1, b"p"), AttemptStarted(rollout()), task("a"))
        await asyncio.gather(*(journal.write(rows("a", n, n + 1, f"{n}-0")) for n in range(20)))
        await journal.write(batch(1, rollout()))
        state, history_bytes = journal.state, journal.stored_bytes
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        assert journal.state == state
        await journal.compact()
        await journal.write(TaskEnded("a", "cancelled"), StepDurable(1))
        await journal.compact()
        assert journal.stored_bytes < history_bytes
        state = journal.state
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        assert journal.state == state
        assert journal.torn_tail is None


async def test_writes_during_a_compaction_are_kept_once(tmp_path: Path) -> None:
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        await journal.write(task("a"))
        work = [[journal.write(rows("a", n, n + 1))] + ([journal.compact()] if n % 5 == 0 else []) for n in range(30)]
        await asyncio.gather(*itertools.chain.from_iterable(work))
        state = journal.state
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        assert journal.state == state
        assert journal.state.tasks["a"].next_row == 30


async def test_a_refused_record_is_not_written_and_the_ones_before_it_are(tmp_path: Path) -> None:
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        with pytest.raises(Gap):
            await journal.write(task("a"), rows("a", 0, 2), rows("a", 5, 6), rows("a", 2, 3))
        assert journal.state.tasks["a"].next_row == 2
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        assert journal.state.tasks["a"].next_row == 2


async def test_after_a_full_disk_the_learner_must_start_again_from_what_is_on_disk(tmp_path: Path) -> None:
    disk = FullDisk()
    async with await LearnerJournal.open(tmp_path, RUN, disk=disk) as journal:
        await journal.write(task("a"))
        disk.room_bytes = 5
        with pytest.raises(Exhausted):
            await journal.write(rows("a", 0, 2))
        with pytest.raises(Unavailable, match="no space"):
            await journal.write(rows("a", 2, 3))
    async with await LearnerJournal.open(tmp_path, RUN) as journal:
        assert journal.state.tasks["a"].next_row == 0


async def test_a_second_learner_of_a_run_is_refused(tmp_path: Path) -> None:
    async with await LearnerJournal.open(tmp_path, RUN):
        with pytest.raises(Conflict, match="process"):
            await LearnerJournal.open(tmp_path, RUN)


async def test_a_journal_that_contradicts_itself_is_corrupt(tmp_path: Path) -> None:
    with Journal(tmp_path, RUN) as journal:
        journal.append(to_entry(task("a")), to_entry(rows("a", 3, 4)))
    with pytest.raises(Corrupt, match="record 2 "):
        await LearnerJournal.open(tmp_path, RUN)
