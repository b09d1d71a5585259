"""Pairs within a group, by reward."""

from typing import Literal

from preceptor.recipes.ops.spec import REWARDS, Kind, OpSpec, Params
from preceptor.recipes.schedules import NotNegative


class RewardPairsParams(Params):
    """Which rollouts of a group are held against each other. Equal rewards never make a pair."""

    take: Literal["extremes", "all"] = "extremes"
    """extremes: the first of the best against the first of the worst; all: every two of different reward."""

    min_gap: NotNegative = 0.0
    """Rewards have to be further apart than this."""


SPEC = OpSpec(
    "reward_pairs",
    Kind.PAIRS,
    "within a group, the rollout of higher reward is chosen, the one of lower reward rejected",
    params=RewardPairsParams,
    reads=REWARDS,
)
