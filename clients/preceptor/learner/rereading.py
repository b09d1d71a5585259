"""What teachers read of finished rollouts: a right answer of the group, and what a judge said. Pure functions of the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from preceptor.journal import LearnerState, RolloutClosed, RolloutKey
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import grade_name
from preceptor.names import task_name
from preceptor.recipes import TeacherPlan
from preceptor.recipes.views import CRITIQUE, SIBLING, Feedback, fields_of
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2


@dataclass(frozen=True, slots=True)
class Rereading:
    """A closed rollout, the teacher that is to score it, and the text that this reads before it."""

    closed: RolloutClosed
    scorer: TeacherPlan
    text: str


def owed(state: LearnerState, plan: RunPlan, index: int) -> Iterator[Rereading]:
    """What has something to show and no task yet, of a step whose verdicts are all there."""
    for key in plan.rollouts_of(index):
        closed = state.closed.get(key)
        for scorer in plan.slot_of(key.sample).rereaders if closed else ():
            if closed is not None and task_name(closed.rollout, scorer.name) not in state.tasks:
                yield from _rereading(state, plan, closed, scorer)


def _rereading(state: LearnerState, plan: RunPlan, closed: RolloutClosed, scorer: TeacherPlan) -> Iterator[Rereading]:
    assert scorer.feedback is not None, "a rereader has it"
    shown = _shown(state, plan, closed, scorer.feedback)
    if any(shown[name] for name in fields_of(scorer.view or "") if name in shown):
        yield Rereading(closed, scorer, plan.views[scorer.name][closed.rollout.prompt].format_map(shown))


def _shown(state: LearnerState, plan: RunPlan, closed: RolloutClosed, feedback: Feedback) -> dict[str, str]:
    own = _verdict(state, plan, closed, feedback)
    return {SIBLING: _sibling(state, plan, closed, feedback), CRITIQUE: own.critique if own else ""}


def _sibling(state: LearnerState, plan: RunPlan, closed: RolloutClosed, feedback: Feedback) -> str:
    """The first other one that passed, by its sample: nobody is shown his own answer."""
    own, slot = RolloutKey.of(closed.rollout), plan.slot_of(closed.rollout.sample)
    for sample in range(slot.first_sample, slot.end_sample):
        other = state.closed.get(own._replace(sample=sample))
        if other is None or sample == own.sample:
            continue
        verdict = _verdict(state, plan, other, feedback)
        if verdict and verdict.validity == common_pb2.VALIDITY_OK and verdict.reward >= feedback.passed_at:
            return rollout_pb2.RolloutResult.FromString(other.payload).text
    return ""


def _verdict(state: LearnerState, plan: RunPlan, closed: RolloutClosed, feedback: Feedback) -> teacher_pb2.Verdict | None:
    task = state.tasks.get(grade_name(closed.rollout, plan.compiled.teachers[feedback.judge]))
    return teacher_pb2.Envelope.FromString(task.rows[-1].payload).verdict if task and task.rows else None
