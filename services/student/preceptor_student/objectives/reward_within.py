"""Rollouts whose reward lies within bounds."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.recipes.ops.quantities import Bounds
from preceptor_student.objectives.bounds import lies_within
from preceptor_student.objectives.samples import Sample


def over_batch(samples: Sequence[Sample], params: Bounds) -> list[bool | None]:
    """Of each sample; None where it was not graded."""
    return [lies_within(one.reward, params) for one in samples]
