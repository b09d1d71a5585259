"""decay ^ age in steps."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.recipes.ops.freshness import FreshnessParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.samples import Sample


def over_batch(samples: Sequence[Sample], params: FreshnessParams) -> list[float]:
    """Of each sample; NaN where the rollout did not log which weights drew it."""
    return [plain(params.decay) ** one.age_steps for one in samples]
