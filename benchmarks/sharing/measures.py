"""Measures of sharing: max-min fair shares, Jain's index, and a victim's delay against having the teacher alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def max_min_shares(demand: Mapping[str, float], weight: Mapping[str, float], capacity: float) -> dict[str, float]:
    """Weighted max-min: who asks for less than his share gets what he asks, the rest is divided again by weight."""
    given: dict[str, float] = {}
    left, open_jobs = capacity, set(demand)
    while open_jobs:
        per_weight = left / sum(weight[job] for job in open_jobs)
        modest = {job for job in open_jobs if demand[job] <= per_weight * weight[job]}
        if not modest:
            return given | {job: per_weight * weight[job] for job in open_jobs}
        given |= {job: demand[job] for job in modest}
        left -= sum(demand[job] for job in modest)
        open_jobs -= modest
    return given


def jain(values: Iterable[float]) -> float:
    """1 when all are equal, 1/n when one has everything."""
    found = list(values)
    return sum(found) ** 2 / (len(found) * sum(value * value for value in found))


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
