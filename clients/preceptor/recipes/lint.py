"""`lint`: why a recipe cannot learn, cannot run, or says something that changes nothing; each finding with a way out."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules import (
    copies,
    divergences,
    engines,
    environments,
    feedback,
    gradient,
    idle,
    names,
    readings,
    slots,
    steps,
)
from preceptor.recipes.rules.finding import Finding, Rule, TermRule, of_recipe
from preceptor.recipes.schema import Recipe

TERM_RULES: tuple[TermRule, ...] = (
    *readings.TERM_RULES, *slots.TERM_RULES, *divergences.TERM_RULES, *environments.TERM_RULES,
    *steps.TERM_RULES,
)  # fmt: skip
"""What the parts of a term must be to each other, whatever recipe it stands in."""

RULES: tuple[Rule, ...] = (
    *map(of_recipe, TERM_RULES), *readings.RULES, *gradient.RULES, *divergences.RULES, *idle.RULES, *copies.RULES,
    *feedback.RULES, *environments.RULES,
)  # fmt: skip
"""To add a rule: a function in the file of its idea under `rules/`, and its name in that file's list."""


def lint(recipe: Recipe, terms: Sequence[ResolvedTerm], rollout_engine: str | None = None) -> list[Finding]:
    """Everything that is wrong, and what this engine of the rollout service cannot draw; None: it is not known which one it is.

    Names are checked first: the other rules rely on them.
    """
    if unknown := list(names.known(recipe, terms)):
        return unknown
    undrawn = () if rollout_engine is None else engines.drawable(recipe, rollout_engine)
    return [*(finding for rule in RULES for finding in rule(recipe, terms)), *undrawn]


def lint_terms(terms: Sequence[ResolvedTerm]) -> list[Finding]:
    """What is wrong with compiled terms, whose recipe is not there."""
    return [finding for rule in TERM_RULES for finding in rule(terms, ())]


__all__ = ["RULES", "Finding", "lint", "lint_terms"]
