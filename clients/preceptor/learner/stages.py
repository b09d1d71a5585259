"""The state machine of a learner: what to do next, decided from its journal and nothing else that a kill could lose.

    WEIGHTS -> EVALUATE -> PROMPTS -> COLLECT -> BATCH -> TRAIN -> CHECKPOINT -> WEIGHTS -> ...

`next_stage` is pure. Every stage makes the condition false that led to it, so a learner that died anywhere starts again by
asking the same question of the replayed journal. Staleness is 0: all stages look at one index, that of the next step to train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from preceptor.journal import LearnerState, RolloutKey
from preceptor.journal.state import FINISHED, PromptKey
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import grade_name
from preceptor.names import task_name
from preceptor.types import RolloutId


class Stage(StrEnum):
    """One thing to do."""

    CHECKPOINT = "checkpoint"
    WEIGHTS = "weights"
    EVALUATE = "evaluate"
    PROMPTS = "prompts"
    COLLECT = "collect"
    BATCH = "batch"
    TRAIN = "train"
    DONE = "done"


@dataclass(slots=True)
class Memory:
    """What a learner knows beside its journal. A new one knows nothing and finds out by asking again, which changes nothing."""

    loaded_step: int | None = None  # whose weights the rollout service runs
    evaluated: set[int] = field(default_factory=set[int])


def next_stage(state: LearnerState, plan: RunPlan, memory: Memory) -> Stage:
    """The next thing to do: the first of these whose condition holds."""
    index = state.applied_step
    conditions: tuple[tuple[Stage, Callable[[], bool]], ...] = (
        (Stage.CHECKPOINT, lambda: state.durable_step < index and plan.is_durable(index)),
        (Stage.WEIGHTS, lambda: memory.loaded_step != plan.weights_for(index)),
        (Stage.EVALUATE, lambda: plan.is_evaluated(index) and index not in memory.evaluated),
        (Stage.DONE, lambda: index >= plan.steps),
        (Stage.TRAIN, lambda: index + 1 in state.batches),
        (Stage.PROMPTS, lambda: any(PromptKey(index, prompt) not in state.prompts for prompt in plan.prompts_of(index))),
        (Stage.COLLECT, lambda: any(open_rollouts(state, plan, index)) or any(unscored(state, plan, index))),
        (Stage.BATCH, lambda: True),
    )
    return next(stage for stage, holds in conditions if holds())


def open_rollouts(state: LearnerState, plan: RunPlan, index: int) -> Iterator[RolloutKey]:
    """Rollouts of a step that nobody has closed."""
    return (key for key in plan.rollouts_of(index) if key not in state.closed)


def unscored(state: LearnerState, plan: RunPlan, index: int) -> Iterator[str]:
    """Tasks of closed rollouts that still owe rows."""
    for key in plan.rollouts_of(index):
        if key in state.closed:
            yield from (name for name in task_names(state.closed[key].rollout, plan) if not is_scored(state, name))


def task_names(rollout: RolloutId, plan: RunPlan) -> Iterator[str]:
    """The tasks of one attempt, verdicts included."""
    slot = plan.slot_of(rollout.sample)
    yield from (task_name(rollout, scorer.name) for scorer in slot.scorers)
    yield from (grade_name(rollout, grader) for grader in slot.graders)


def is_scored(state: LearnerState, task_id: str) -> bool:
    """Whether the teacher has said that this was the last row."""
    task = state.tasks.get(task_id)
    return task is not None and task.ended == FINISHED
