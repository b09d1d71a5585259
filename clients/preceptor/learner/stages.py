"""The state machine of a learner: what to do next, decided from its journal and nothing else that a kill could lose.

    generate:  WEIGHTS -> EVALUATE -> PROMPTS -> COLLECT -> ...        draws at most `ahead` steps ahead of training
    score:     GRADE -> ...
    train:     CHECKPOINT -> PUBLISH -> SIFT -> REREAD -> SCORES -> BATCH -> TRAIN -> ...

`next_work` is pure. Every stage makes the condition false that led to it, so a learner that died anywhere starts again by asking
the same questions of the replayed journal. Where generation may not run ahead the lanes take turns: strictly on-policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from preceptor.journal import LearnerState, RolloutClosed, RolloutKey
from preceptor.journal.state import FINISHED, PromptKey
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import grade_name
from preceptor.learner.rereading import owed
from preceptor.names import task_name
from preceptor.types import RolloutId
from preceptor_proto.v1 import rollout_pb2


class Stage(StrEnum):
    """One thing to do."""

    WEIGHTS = "weights"
    EVALUATE = "evaluate"
    PROMPTS = "prompts"
    COLLECT = "collect"
    GRADE = "grade"
    CHECKPOINT = "checkpoint"
    PUBLISH = "publish"
    SIFT = "sift"
    REREAD = "reread"
    SCORES = "scores"
    BATCH = "batch"
    TRAIN = "train"
    WAIT = "wait"  # for what another lane does
    DONE = "done"


class Lane(StrEnum):
    """What goes on beside what."""

    GENERATE = "generate"
    SCORE = "score"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Work:
    """A stage, and the step that it is about: an index, or for WEIGHTS a version."""

    stage: Stage
    index: int = 0


@dataclass(slots=True)
class Memory:
    """What a learner knows beside its journal. A new one knows nothing and finds out by asking again, which changes nothing."""

    published_step: int | None = None  # of the newest version of this run
    loaded_step: int | None = None  # whose weights the rollout service runs
    evaluated: set[int] = field(default_factory=set[int])


WAIT, DONE = Work(Stage.WAIT), Work(Stage.DONE)


def next_work(lane: Lane, state: LearnerState, plan: RunPlan, memory: Memory) -> Work:
    """The next thing to do in a lane."""
    match lane:
        case Lane.GENERATE:
            return _generate(state, plan, memory)
        case Lane.SCORE:
            return _score(state, plan)
        case Lane.TRAIN:
            return _train(state, plan, memory)


def last_step(state: LearnerState, plan: RunPlan) -> int:
    """The step that the run ends with, as far as is known."""
    return plan.steps if state.ended is None else state.ended.step


def _generate(state: LearnerState, plan: RunPlan, memory: Memory) -> Work:
    applied, end, newest = state.applied_step, last_step(state, plan), memory.published_step
    wanted = plan.weights_for(applied, end)
    if newest == wanted and (applied >= end or _owes_evaluation(state, plan, memory)):
        if memory.loaded_step != wanted:
            return Work(Stage.WEIGHTS, wanted)
        return Work(Stage.EVALUATE, applied) if _owes_evaluation(state, plan, memory) else DONE
    index = next((one for one in range(applied, min(applied + plan.ahead + 1, end)) if not is_drawn(state, plan, one)), None)
    if index is None or newest is None or plan.age(index, newest) > plan.ahead:
        return WAIT
    if memory.loaded_step != newest:
        return Work(Stage.WEIGHTS, newest)
    taken = all(PromptKey(index, prompt) in state.prompts for prompt in plan.prompts_of(index))
    return Work(Stage.COLLECT if taken else Stage.PROMPTS, index)


def _score(state: LearnerState, plan: RunPlan) -> Work:
    applied, end = state.applied_step, last_step(state, plan)
    for index in range(applied, min(applied + plan.ahead + 1, end)):
        if is_drawn(state, plan, index) and any(ungraded(state, plan, index)):
            return Work(Stage.GRADE, index)
    return DONE if applied >= end else WAIT


def _train(state: LearnerState, plan: RunPlan, memory: Memory) -> Work:
    """The first of these whose condition holds."""
    index, end = state.applied_step, last_step(state, plan)
    conditions: tuple[tuple[Work, Callable[[], bool]], ...] = (
        (Work(Stage.CHECKPOINT, index), lambda: state.durable_step < index and plan.is_durable(index, end)),
        (Work(Stage.PUBLISH, plan.weights_for(index, end)), lambda: memory.published_step != plan.weights_for(index, end)),
        (DONE, lambda: index >= end),
        (WAIT, lambda: _owes_evaluation(state, plan, memory)),
        (Work(Stage.TRAIN, index), lambda: index + 1 in state.batches),
        (WAIT, lambda: not is_drawn(state, plan, index) or any(ungraded(state, plan, index))),
        (Work(Stage.SIFT, index), lambda: any(too_old(state, plan, index))),
        (Work(Stage.REREAD, index), lambda: any(owed(state, plan, index))),
        (Work(Stage.SCORES, index), lambda: any(unscored(state, plan, index))),
        (Work(Stage.BATCH, index), lambda: True),
    )
    return next(work for work, holds in conditions if holds())


def _owes_evaluation(state: LearnerState, plan: RunPlan, memory: Memory) -> bool:
    """An evaluation is a barrier: the next step is not trained before it."""
    index = state.applied_step
    return index not in memory.evaluated and plan.is_evaluated(index, last_step(state, plan))


# ---------------------------------------------------------------- what a step still needs


def is_drawn(state: LearnerState, plan: RunPlan, index: int) -> bool:
    """Whether every rollout of a step is closed or given up. A journaled batch has all that it needs."""
    return index + 1 in state.batches or not any(open_rollouts(state, plan, index))


def open_rollouts(state: LearnerState, plan: RunPlan, index: int) -> Iterator[RolloutKey]:
    """Rollouts of a step that nobody has closed."""
    return (key for key in plan.rollouts_of(index) if not state.is_settled(key))


def closed_rollouts(state: LearnerState, plan: RunPlan, index: int) -> Iterator[RolloutClosed]:
    """What a step is trained on, sorted by (prompt, sample)."""
    return (state.closed[key] for key in plan.rollouts_of(index) if key in state.closed)


def too_old(state: LearnerState, plan: RunPlan, index: int) -> Iterator[RolloutId]:
    """Closed attempts that the bound does not allow. Where nothing runs further ahead than the bound there are none."""
    if plan.stale_weight or plan.ahead <= plan.staleness:
        return
    for closed in closed_rollouts(state, plan, index):
        if age_of(closed, plan) > plan.staleness:
            yield closed.rollout


def age_of(closed: RolloutClosed, plan: RunPlan) -> int:
    """Versions between the weights that drew a rollout and those that a strictly on-policy run would have drawn from."""
    if not plan.slot_of(closed.rollout.sample).by_student:
        return 0
    return plan.age(closed.rollout.step, rollout_pb2.RolloutResult.FromString(closed.payload).model.step)


def unscored(state: LearnerState, plan: RunPlan, index: int) -> Iterator[str]:
    """Tasks of closed rollouts that still owe rows."""
    for closed in closed_rollouts(state, plan, index):
        names = score_names(state, plan, closed)
        yield from (name for name in names.values() if not is_scored(state, name))


def score_names(state: LearnerState, plan: RunPlan, closed: RolloutClosed) -> dict[str, str]:
    """Teacher -> its score task of a closed rollout; a teacher that found nothing to read again has none."""
    slot = plan.slot_of(closed.rollout.sample)
    names = {scorer.name: task_name(closed.rollout, scorer.name) for scorer in slot.scorers}
    unread = {scorer.name for scorer in slot.rereaders if names[scorer.name] not in state.tasks}
    return {teacher: name for teacher, name in names.items() if teacher not in unread}


def ungraded(state: LearnerState, plan: RunPlan, index: int) -> Iterator[str]:
    """Verdicts that closed rollouts still owe."""
    for closed in closed_rollouts(state, plan, index):
        graders = plan.slot_of(closed.rollout.sample).graders
        names = (grade_name(closed.rollout, grader) for grader in graders)
        yield from (name for name in names if not is_scored(state, name))


def is_scored(state: LearnerState, task_id: str) -> bool:
    """Whether the teacher has said that this was the last row."""
    task = state.tasks.get(task_id)
    return task is not None and task.ended == FINISHED
