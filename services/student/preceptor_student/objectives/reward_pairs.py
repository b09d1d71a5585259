"""Pairs within a group, by reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations

from preceptor.recipes.ops.reward_pairs import RewardPairsParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.samples import Pair, Sample


def pairs(samples: Sequence[Sample], params: RewardPairsParams) -> list[Pair]:
    """(higher reward, lower reward) of one group; ties and ungraded samples make none."""
    groups: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for place, one in enumerate(samples):
        if one.reward is not None:
            groups[one.group].append((place, one.reward))
    return [pair for members in groups.values() for pair in _of_group(members, params)]


def _of_group(members: Sequence[tuple[int, float]], params: RewardPairsParams) -> Iterator[Pair]:
    if params.take == "extremes":
        members = [max(members, key=lambda one: one[1]), min(members, key=lambda one: one[1])]
    gap = plain(params.min_gap)
    return ((high, low) for (high, best), (low, worst) in permutations(members, 2) if best - worst > gap)
