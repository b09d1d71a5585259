"""A softmax within the group over mean log-probabilities, times the size of the group: weights have mean one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import exp, isfinite, nan

from preceptor.recipes.ops.perplexity import PerplexityParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.samples import Sample


def over_batch(samples: Sequence[Sample], params: PerplexityParams) -> list[float]:
    """Of each sample; NaN where its own log-probabilities are not all known. Such a sample does not count in its group."""
    scored = [(one.group, _score(one, params)) for one in samples]
    groups: dict[str, list[float]] = defaultdict(list)
    for group, score in scored:
        if isfinite(score):
            groups[group].append(score)
    return [_weight(score, groups[group]) if isfinite(score) else nan for group, score in scored]


def _score(one: Sample, params: PerplexityParams) -> float:
    mean = one.mean_student if params.of == "student" else one.mean_teacher
    slope = plain(params.sharpness)
    return (slope if params.prefer == "likely" else -slope) * mean if one.taken else nan


def _weight(score: float, group: Sequence[float]) -> float:
    return len(group) / sum(exp(other - score) for other in group)
