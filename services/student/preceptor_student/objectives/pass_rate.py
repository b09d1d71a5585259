"""rate^solved * (1 - rate)^unsolved of the rollout's group."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from preceptor.recipes.ops.pass_rate import PassRateParams
from preceptor_student.objectives.samples import Sample, pass_rates


def over_batch(samples: Sequence[Sample], params: PassRateParams) -> list[float]:
    """Of each sample; NaN where nobody of its group was graded."""
    rates = pass_rates(samples, params.passed_at)
    weights = {group: rate**params.solved * (1 - rate) ** params.unsolved for group, rate in rates.items()}
    return [weights.get(one.group, nan) for one in samples]
