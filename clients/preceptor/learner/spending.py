"""What the verdicts of one step cost and came to, read off the journal, so that a learner that died meanwhile counts the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from preceptor.journal import LearnerState
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import grade_name
from preceptor.learner.stages import closed_rollouts
from preceptor_proto.v1 import common_pb2, teacher_pb2


@dataclass(frozen=True, slots=True)
class Spending:
    """Of one step. Calls and tokens are as the providers counted them."""

    verdicts: int
    missing: int  # asked for, and not given
    mean_reward: float | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None  # None: a provider without prices was asked


def spent_on(state: LearnerState, plan: RunPlan, index: int) -> Spending | None:
    """None where nobody grades."""
    verdicts = list(_verdicts(state, plan, index))
    if not verdicts:
        return None
    rewards = [one.reward for one in verdicts if one.validity == common_pb2.VALIDITY_OK]
    return Spending(
        verdicts=len(verdicts),
        missing=len(verdicts) - len(rewards),
        mean_reward=fmean(rewards) if rewards else None,
        calls=sum(one.calls for one in verdicts),
        prompt_tokens=sum(one.prompt_tokens for one in verdicts),
        completion_tokens=sum(one.completion_tokens for one in verdicts),
        cost_usd=_cost_usd(verdicts),
    )


def _cost_usd(verdicts: Sequence[teacher_pb2.Verdict]) -> float | None:
    asked = [one for one in verdicts if one.calls]
    return sum((one.cost_usd for one in asked), 0.0) if all(one.HasField("cost_usd") for one in asked) else None


def _verdicts(state: LearnerState, plan: RunPlan, index: int) -> Iterator[teacher_pb2.Verdict]:
    for closed in closed_rollouts(state, plan, index):
        for grader in plan.slot_of(closed.rollout.sample).graders:
            task = state.tasks[grade_name(closed.rollout, grader)]
            yield from (teacher_pb2.Envelope.FromString(part.payload).verdict for part in task.rows)
