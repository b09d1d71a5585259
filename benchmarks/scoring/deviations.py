"""Differences between two scores of the same token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.types import Rows

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Deviations:
    """Absolute differences in nats; a value on one side only, or another sign of infinity, counts as infinite."""

    what: str
    values: F64

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def largest(self) -> float:
        return float(self.values.max(initial=0.0))

    @property
    def p99(self) -> float:
        return float(np.quantile(self.values, 0.99)) if len(self.values) else 0.0


def deviations(what: str, pairs: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> Deviations:
    return Deviations(what, np.concatenate([np.zeros(0), *(_differences(one, other) for one, other in pairs)]))


def _differences(one: NDArray[np.floating], other: NDArray[np.floating]) -> F64:
    if one.shape != other.shape:
        raise ValueError(f"{one.shape} scores against {other.shape}")
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return np.where(same, 0.0, np.where(np.isfinite(gaps), gaps, np.inf)).ravel()


def sampled_of(rows: Rows) -> NDArray[np.float32]:
    if rows.sampled is None:
        raise ValueError("these rows have no sampled column")
    return rows.sampled


def joined(parts: Sequence[Rows]) -> NDArray[np.float32]:
    """The sampled column of a sequence that was scored in parts."""
    return np.concatenate([sampled_of(part) for part in parts])
