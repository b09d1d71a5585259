"""Verdicts on steps: whoever is asked for them can tell steps apart, and is told to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops.reward import WHOLE
from preceptor.recipes.resolve import Reading, ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, TermRule

STEPWISE, STEPS = "verbal", "steps"
"""The grader that scores steps where a parameter says what they are."""


def _steps_are_told(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for reading in (reading for one in terms for reading in one.readings if reading.needs.steps):
        grader = reading.needs.grader
        if grader in WHOLE:
            why = f"{grader} judges the whole rollout and tells no steps apart"
            yield Finding(Code.NO_STEPS, reading.where, why, "name a grader that does, chunks or verbal, or read reward")
        elif grader == STEPWISE and not _tells(reading):
            why = f"{STEPWISE} scores no steps unless it is told what they are"
            yield Finding(Code.STEPS_UNSET, reading.where, why, f"set parameters: {{{STEPS}: words}}")


def _tells(reading: Reading) -> bool:
    return dict(reading.needs.grader_parameters).get(STEPS, "none") != "none"


TERM_RULES: tuple[TermRule, ...] = (_steps_are_told,)
