"""Rollouts of groups whose pass rate lies within bounds."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.recipes.ops.pass_rate_within import PassRateWithinParams
from preceptor_student.objectives.bounds import lies_within
from preceptor_student.objectives.samples import Sample, pass_rates


def over_batch(samples: Sequence[Sample], params: PassRateWithinParams) -> list[bool | None]:
    """Of each sample; None where nobody of its group was graded."""
    rates = pass_rates(samples, params.passed_at)
    return [lies_within(rates.get(one.group), params) for one in samples]
