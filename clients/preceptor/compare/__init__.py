"""Recipes held against each other: the same start, the same seeds, controls beside them, means with their standard errors."""

from preceptor.compare.entries import Comparison, Entry, entries_of
from preceptor.compare.execute import compare
from preceptor.compare.outcomes import Outcome, Spent, outcome_of
from preceptor.compare.statistics import Estimate, estimate, paired_difference
from preceptor.compare.tables import HEADER, markdown, rows_of

__all__ = [
    "HEADER",
    "Comparison",
    "Entry",
    "Estimate",
    "Outcome",
    "Spent",
    "compare",
    "entries_of",
    "estimate",
    "markdown",
    "outcome_of",
    "paired_difference",
    "rows_of",
]
