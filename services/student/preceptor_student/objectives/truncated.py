"""Rollouts by whether they ran into the length limit."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.recipes.ops.truncated import TruncatedParams
from preceptor_student.objectives.samples import Sample


def over_batch(samples: Sequence[Sample], params: TruncatedParams) -> list[bool | None]:
    return [one.truncated == params.was for one in samples]
