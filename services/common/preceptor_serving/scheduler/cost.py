"""What a task costs: the one rule by which flows are charged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from preceptor.errors import ConfigurationError
from preceptor_serving.scheduler.types import Work


@dataclass(frozen=True, slots=True)
class CostRule:
    """Cost = logical new tokens + ``row_cost_tokens`` x rows read. The engine declares what one row is worth in tokens."""

    row_cost_tokens: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.row_cost_tokens) and self.row_cost_tokens >= 0):
            raise ConfigurationError(
                "reading a row costs zero or more tokens", field="row_cost_tokens", value=self.row_cost_tokens
            )

    def cost(self, work: Work) -> float:
        """The charge for this work. Recomputed tokens are not in it: a tenant does not pay for our evictions."""
        return work.new_tokens + self.row_cost_tokens * work.rows
