"""The state machine in every order: whatever comes first, dies or gets too old, a step is trained once on what it asked for."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError
from preceptor.journal import (
    LearnerState,
    RolloutClosed,
    RolloutDropped,
    RolloutReleased,
    RolloutSkipped,
    RowsReceived,
    RunEnded,
    StepApplied,
    StepDurable,
    records_of,
    replay,
)
from preceptor.learner import Lane, Memory, RunPlan, Stage, Work, next_work
from preceptor.learner.join import batch_of
from preceptor.learner.requests import Terms, attempt_records, missing_groups, prompt_taken, rollouts_of_group
from preceptor.learner.stages import age_of, closed_rollouts, too_old, ungraded, unscored
from preceptor.types import FinishReason, ModelRef, Rollout, RolloutId, Sequence
from preceptor.types.rollouts import Behaviour
from preceptor.wire import ids_to_proto, rollout_to_proto
from preceptor_proto.v1 import student_pb2
from tests.unit.preceptor.learner.world import RUN, TEACHER, plan

IDS = [5, 6]


def drawn(rollout: RolloutId, weight_step: int) -> RolloutClosed:
    model = ModelRef("student", RUN, 1, weight_step, bytes(32))
    value = Rollout(rollout, Sequence.of([1, 2], IDS), Behaviour(), FinishReason.EOS, model)
    return RolloutClosed(rollout, rollout_to_proto(value).SerializeToString())


@dataclass
class Machine:
    """Does what the state machine says, one small effect at a time, on a journal that outlives memory."""

    todo: RunPlan
    fail: set[tuple[int, int, int]] = field(default_factory=set)  # rollouts that fail for good
    end_after: int | None = None
    state: LearnerState = field(default_factory=lambda: LearnerState(RUN))
    published: int | None = None
    trained: list[list[tuple[int, int, int, float]]] = field(default_factory=list)  # prompt, sample, age, weight

    def __post_init__(self) -> None:
        self.memory = Memory()
        self.works: dict[Lane, Generator[None]] = {}

    def ask(self, lane: Lane) -> Work:
        self.memory.published_step = self.published
        return next_work(lane, self.state, self.todo, self.memory)

    def kill(self) -> None:
        """Only the journal, and what the student has published, are left."""
        self.works, self.memory = {}, Memory(evaluated=self.memory.evaluated)
        self.state = replay(RUN, records_of(self.state))

    def advance(self, lane: Lane) -> bool:
        """One effect of a lane; false where it can do nothing."""
        if lane not in self.works:
            work = self.ask(lane)
            if work.stage in (Stage.WAIT, Stage.DONE):
                return False
            self.works[lane] = getattr(self, f"_{work.stage.value}")(work.index)
        if next(self.works[lane], "over") == "over":
            del self.works[lane]
        return True

    def is_done(self) -> bool:
        return not self.works and all(self.ask(lane).stage is Stage.DONE for lane in Lane)

    def _weights(self, _: int) -> Generator[None]:
        newest = self.published
        yield
        self.memory.loaded_step = newest

    def _evaluate(self, index: int) -> Generator[None]:
        assert self.memory.loaded_step == index, "other weights were asked"
        yield
        if self.end_after is not None and index >= self.end_after:
            self.state.apply(RunEnded(index, "no gain"))
        self.memory.evaluated.add(index)

    def _prompts(self, index: int) -> Generator[None]:
        yield
        for prompt in self.todo.prompts_of(index):
            self.state.apply(prompt_taken(self.todo, index, prompt, ids_to_proto([prompt, 1])))

    def _collect(self, index: int) -> Generator[None]:
        slot, loaded = self.todo.slots[0], self.memory.loaded_step
        assert loaded is not None
        while groups := missing_groups(self.state, self.todo, slot, index):
            for record in attempt_records(self.state, self.todo, slot, groups, index, Terms(bytes(32))):
                self.state.apply(record)
            for rollout in [one for group in groups for one in rollouts_of_group(self.todo, index, group)]:
                yield
                fails = (index, rollout.prompt, rollout.sample) in self.fail
                self.state.apply(RolloutSkipped(rollout, "refused") if fails else drawn(rollout, loaded))

    def _receive(self, names: list[str], rows: int) -> Generator[None]:
        for name in names:
            yield
            self.state.apply(RowsReceived(name, TEACHER, "1-0", 0, rows, True, b""))

    def _grade(self, index: int) -> Generator[None]:
        yield from self._receive(list(ungraded(self.state, self.todo, index)), 0)

    def _scores(self, index: int) -> Generator[None]:
        yield from self._receive(list(unscored(self.state, self.todo, index)), len(IDS))

    def _checkpoint(self, index: int) -> Generator[None]:
        yield
        self.state.apply(StepDurable(index))

    def _publish(self, step: int) -> Generator[None]:
        assert self.state.applied_step == step, "the student is elsewhere"
        yield
        self.published = step

    def _sift(self, index: int) -> Generator[None]:
        yield
        for rollout in list(too_old(self.state, self.todo, index)):
            self.state.apply(RolloutDropped(rollout))

    def _batch(self, index: int) -> Generator[None]:
        yield
        self.state.apply(batch_of(self.state, self.todo, index, 50))

    def _train(self, index: int) -> Generator[None]:
        batch = self.state.batches[index + 1]
        yield
        ages = {one.rollout: age_of(one, self.todo) for one in closed_rollouts(self.state, self.todo, index)}
        items = [item for part in batch.micro_batches for item in student_pb2.MicroBatch.FromString(part).items]
        assert len(self.trained) == index, "a step was left out or trained twice"
        self.trained.append([(i.id.prompt, i.id.sample, ages[_id(i)], i.weight) for i in items])
        gone = [RolloutReleased(RolloutId(RUN, *key)) for key in self.state.skipped if key.step == index]
        for record in (StepApplied(index + 1, batch.digest), *map(RolloutReleased, batch.rollouts), *gone):
            self.state.apply(record)


def _id(item: student_pb2.TrainItem) -> RolloutId:
    return RolloutId(RUN, item.id.step, item.id.prompt, item.id.sample, item.id.attempt)


@st.composite
def plans(draw: st.DrawFn) -> RunPlan:
    staleness = draw(st.integers(0, 2))
    ahead = draw(st.sampled_from([None, staleness, staleness + 1, staleness + 2]))
    beyond = ahead is not None and ahead > staleness
    publish = draw(st.sampled_from([1, 1, 3]))
    return plan(
        steps=draw(st.integers(1, 6)),
        prompts_per_step=2,
        deterministic=False,
        checkpoint_every_steps=draw(st.integers(1, 3)),
        publish_every_steps=publish,
        staleness=staleness,
        ahead_steps=ahead,
        stale_weight=draw(st.sampled_from([0.0, 0.5])) if beyond else 0.0,
        failed_rollouts_per_step=3,
    )


KILL = "kill"


@settings(max_examples=150, deadline=None)
@given(st.data(), plans(), st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 1)), max_size=3))
def test_every_order_of_work_and_every_kill_trains_each_step_once(data: st.DataObject, todo: RunPlan, fail: set) -> None:
    machine = Machine(todo, {(index, *rest) for index, *rest in fail})
    machine.end_after = data.draw(st.sampled_from([None, None, 3]))
    moves = iter(data.draw(st.lists(st.sampled_from([*Lane, *Lane, *Lane, KILL]), max_size=120)))
    lanes = list(Lane)
    while not machine.is_done():
        move = next(moves, None)
        if move == KILL:
            machine.kill()
        elif move is not None:
            machine.advance(Lane(move))
        else:
            moved = [machine.advance(lane) for lane in lanes]  # all of them, in turn
            assert any(moved), "nothing moves"
    end = machine.state.ended.step if machine.state.ended else todo.steps
    assert len(machine.trained) == end == machine.state.applied_step == machine.state.durable_step
    assert machine.published == end == machine.memory.loaded_step
    for index, items in enumerate(machine.trained):
        asked = [(key.prompt, key.sample) for key in todo.rollouts_of(index) if tuple(key) not in machine.fail]
        assert [(prompt, sample) for prompt, sample, _, _ in items] == asked, "lost or doubled"
        for _, _, age, weight in items:
            if todo.stale_weight:
                assert weight == todo.stale_weight ** max(0, age - todo.staleness)
            else:
                assert age <= todo.staleness
                assert weight == 1.0


def test_where_nothing_runs_ahead_the_lanes_take_turns() -> None:
    machine = Machine(plan(steps=4))
    while not machine.is_done():
        able = [lane for lane in Lane if lane in machine.works or machine.ask(lane).stage not in (Stage.WAIT, Stage.DONE)]
        assert len(able) == 1
        machine.advance(able[0])
    assert {age for items in machine.trained for _, _, age, _ in items} == {0}


def test_the_next_step_is_drawn_while_one_is_trained() -> None:
    machine = Machine(plan(steps=4, deterministic=False, staleness=1))
    while 1 not in machine.state.batches:
        for lane in Lane:
            machine.advance(lane)
    while machine.advance(Lane.GENERATE):
        pass
    assert {key.step for key in machine.state.closed} == {0, 1}, "one step ahead, and no more"
    assert machine.state.applied_step == 0


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("deterministic", {"staleness": 1}),
        ("ahead_steps", {"staleness": 2, "ahead_steps": 1, "deterministic": False}),
        ("stale_weight", {"staleness": 1, "stale_weight": 0.5, "deterministic": False}),
        ("failed_rollouts_per_step", {"failed_rollouts_per_step": 4}),
    ],
)
def test_schedules_that_contradict_themselves_are_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan(**changes)
    assert caught.value.field == f"schedule.{field}"
