"""`lint`: why a recipe cannot learn, cannot run, or says something that changes nothing; each finding with a way out."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules import copies, divergences, gradient, idle, names, readings, slots
from preceptor.recipes.rules.finding import Finding, Rule
from preceptor.recipes.schema import Recipe

RULES: tuple[Rule, ...] = (*readings.RULES, *slots.RULES, *gradient.RULES, *divergences.RULES, *idle.RULES, *copies.RULES)
"""To add a rule: a function in the file of its idea under `rules/`, and its name in that file's list."""


def lint(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> list[Finding]:
    """Everything that is wrong. Names are checked first: the other rules rely on them."""
    return list(names.known(recipe, terms)) or [finding for rule in RULES for finding in rule(recipe, terms)]


__all__ = ["RULES", "Finding", "lint"]
