"""The page of a comparison: the table, the curves over seeds, and every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from statistics import fmean

from preceptor.compare.entries import Comparison
from preceptor.compare.outcomes import Outcome
from preceptor.compare.tables import HEADER, rows_of
from preceptor.report.chart import Point, Series, line_chart
from preceptor.report.page import page, section, table

TONES = ("run", "second", "reference", "third", "fourth", "fifth", "control")
NOTE = (
    "Greedy answers to held-out prompts, before and after; ± is one standard error over seeds, and says nothing about other data "
    "or other models. Differences are between runs of the same seed. A control's scores are real ones at wrong places."
)


@dataclass(frozen=True, slots=True)
class CompareReport:
    """What has been found of what was asked for."""

    found: Sequence[Outcome]
    total: int
    asked: Comparison


def render_compare(report: CompareReport) -> str:
    """The page; a comparison that is not over says so."""
    missing = report.total - len(report.found)
    lead = f"{len(report.found)} of {report.total} runs" + (f", {missing} still to come" if missing else "")
    rows = [[escape(cell) for cell in row] for row in rows_of(report.found)]
    parts = [
        section("Recipes", table(HEADER, rows, numbers=range(1, len(HEADER))), NOTE),
        _curves(report.found),
        _runs(report.found),
    ]
    return page("Recipes held against each other", escape(lead), parts)


def _curves(found: Sequence[Outcome]) -> str:
    groups: dict[str, list[Outcome]] = {}
    for one in found:
        if not one.failure:
            groups.setdefault(one.entry.group, []).append(one)
    tones = dict(zip(dict.fromkeys(outcomes[0].entry.recipe for outcomes in groups.values()), cycle(TONES), strict=False))
    series = [
        Series(name, _mean_curve(outcomes), tones[entry.recipe], dashed=entry.control != "none")
        for name, outcomes in groups.items()
        for entry in [outcomes[0].entry]
    ]
    chart = line_chart(series, "step", "held-out accuracy", percent=True, y_max=1.0, legend=True)
    return section("Held-out accuracy", chart, "Means over the seeds that were asked at a step; dashed: scores permuted.")


def _mean_curve(outcomes: Sequence[Outcome]) -> list[Point]:
    at: dict[float, list[float]] = {}
    for one in outcomes:
        for step, accuracy in one.accuracies:
            at.setdefault(step, []).append(accuracy)
    return [(step, fmean(values)) for step, values in sorted(at.items())]


def _runs(found: Sequence[Outcome]) -> str:
    rows = [
        (
            escape(one.entry.group),
            str(one.entry.seed),
            "" if one.failure else f"{one.before:.1%}",
            "" if one.failure else f"{one.after:.1%}",
            escape(one.failure or one.ended),
        )
        for one in found
    ]
    return section("Every run", table(("recipe", "seed", "before", "after", "remark"), rows, numbers=(1, 2, 3)))
