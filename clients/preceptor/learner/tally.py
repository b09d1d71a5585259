"""What the rollouts of one step were, read off the journal: how old, how many left out, how repetitive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from preceptor.journal import LearnerState
from preceptor.learner.plan import RunPlan
from preceptor.learner.stages import age_of, closed_rollouts
from preceptor.wire import sequence_from_proto
from preceptor_proto.v1 import rollout_pb2

GRAM_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Tally:
    """Ages are in published versions."""

    rollouts: int
    weight_step: int  # of the oldest weights that drew some of them
    mean_age: float
    max_age: int
    dropped: int  # attempts that were too old and drawn again
    reweighted: int
    skipped: int
    repetition: float  # mean over rollouts: share of 4-grams that the response had before
    turns: float | None = None  # mean replies of a rollout; None: no rollout had an environment
    environment_reward: float | None = None  # mean of what the environment gave


def tally_of(state: LearnerState, plan: RunPlan, index: int) -> Tally:
    """Before the step is released."""
    closed = list(closed_rollouts(state, plan, index))
    results = [rollout_pb2.RolloutResult.FromString(one.payload) for one in closed]
    played = [one for one in results if one.HasField("reward")]
    ages = [age_of(one, plan) for one in closed]
    return Tally(
        rollouts=len(closed),
        weight_step=plan.weights_for(index) - max(ages, default=0) * plan.publish_every,
        mean_age=fmean(ages) if ages else 0.0,
        max_age=max(ages, default=0),
        dropped=sum(len(attempts) for key, attempts in state.dropped.items() if key.step == index),
        reweighted=sum(age > plan.staleness for age in ages),
        skipped=sum(key.step == index for key in state.skipped),
        repetition=fmean(repetition(_response_ids(one)) for one in results) if results else 0.0,
        turns=fmean(_turns(one) for one in played) if played else None,
        environment_reward=fmean(one.reward for one in played) if played else None,
    )


def repetition(ids: Sequence[int]) -> float:
    """The share of a response's 4-grams that stood in it before; 0 where it is too short to have two."""
    grams = list(zip(*(ids[start:] for start in range(GRAM_TOKENS)), strict=False))
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


def _response_ids(result: rollout_pb2.RolloutResult) -> list[int]:
    return sequence_from_proto(result.sequence).response_ids.tolist()


def _turns(result: rollout_pb2.RolloutResult) -> int:
    return sum(segment.HasField("response") for segment in result.sequence.segments)
