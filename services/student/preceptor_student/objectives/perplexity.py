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
    sign = plain(params.sharpness) * (1 if params.prefer == "likely" else -1)
    scores = [sign * (one.mean_student if params.of == "student" else one.mean_teacher) for one in samples]
    groups: dict[str, list[float]] = defaultdict(list)
    counted = [one.taken and isfinite(score) for one, score in zip(samples, scores, strict=True)]
    for one, score, counts in zip(samples, scores, counted, strict=True):
        if counts:
            groups[one.group].append(score)
    return [
        _weight(score, groups[one.group]) if counts else nan for one, score, counts in zip(samples, scores, counted, strict=True)
    ]


def _weight(score: float, group: Sequence[float]) -> float:
    return len(group) / sum(exp(other - score) for other in group)
