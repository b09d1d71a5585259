"""Means over seeds with their standard errors, and differences between runs of the same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and its standard error: NaN where a single value says nothing about it."""

    mean: float
    error: float
    count: int

    def told(self, scale: float = 1.0, sign: bool = False) -> str:
        """`mean ± error`, one digit after the point."""
        number = f"{self.mean * scale:{'+' if sign else ''}.1f}"
        return number if math.isnan(self.error) else f"{number} ± {self.error * scale:.1f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Over independent values; at least one."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(fmean(values), error, len(values))


def paired_difference(values: Mapping[int, float], against: Mapping[int, float]) -> Estimate | None:
    """Mean of the differences under the seeds that both have; None where they share none."""
    differences = [values[seed] - against[seed] for seed in sorted(values.keys() & against.keys())]
    return estimate(differences) if differences else None
