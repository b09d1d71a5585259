"""From what a judge says to a reward: one number for each score, and how to find them from responses whose worth is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from preceptor_teacher.graders.verdicts import HIGHEST, LOWEST

SCORES = range(LOWEST, HIGHEST + 1)


def rewards_of(text: str) -> tuple[float, ...]:
    """The reward of each score from 0 to 10, as a parameter has them: eleven numbers that never fall. Empty: the score itself."""
    if not text.strip():
        return tuple(map(float, SCORES))
    rewards = tuple(float(one) for one in text.replace(",", " ").split())
    if len(rewards) != len(SCORES) or not all(map(math.isfinite, rewards)):
        raise ValueError(f"not {len(SCORES)} finite numbers")
    if any(after < before for before, after in pairwise(rewards)):
        raise ValueError("a higher score has a lower reward")
    return rewards


def as_text(rewards: Sequence[float]) -> str:
    """The same numbers as a recipe's parameter."""
    return " ".join(f"{one:.6g}" for one in rewards)


def calibrated(judged: Iterable[tuple[float, float]]) -> tuple[float, ...]:
    """The reward of each score, from pairs of a score and what the response was worth: the nearest numbers that never fall.

    Nearest by least squares. Scores that nobody gave lie on the line between their neighbours, and beyond the last one are level.
    """
    worths: dict[int, list[float]] = {}
    for score, worth in judged:
        worths.setdefault(_score(score), []).append(worth)
    if not worths:
        raise ValueError("nothing was judged")
    scores = sorted(worths)
    fitted = _never_falling([(fmean(worths[one]), len(worths[one])) for one in scores])
    return tuple(_between(score, scores, fitted) for score in SCORES)


def _score(value: float) -> int:
    if value not in SCORES:
        raise ValueError(f"{value} is no score from {LOWEST} to {HIGHEST}")
    return int(value)


def _never_falling(means: Sequence[tuple[float, int]]) -> list[float]:
    """Neighbours that fall are pooled until none does."""
    pools: list[tuple[float, int, int]] = []  # mean, weight, members
    for mean, weight in means:
        pools.append((mean, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, a, some), (high, b, more) = pools[-2:]
            pools[-2:] = [((low * a + high * b) / (a + b), a + b, some + more)]
    return [mean for mean, _, members in pools for _ in range(members)]


def _between(score: int, scores: Sequence[int], values: Sequence[float]) -> float:
    after = next((place for place, one in enumerate(scores) if one >= score), len(scores) - 1)
    if scores[after] <= score or after == 0:
        return values[after]
    share = (score - scores[after - 1]) / (scores[after] - scores[after - 1])
    return values[after - 1] + share * (values[after] - values[after - 1])
