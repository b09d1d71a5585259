"""What a rule says of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.schema import Recipe


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a recipe is refused, in one sentence. `fix` are overrides that lead to the nearest recipe without this finding."""

    code: Code
    field: str
    sentence: str
    advice: str = ""
    fix: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """The advice, and the overrides as they are typed."""
        return "; ".join(filter(None, (self.advice, f"try {' '.join(self.fix)}" if self.fix else "")))


Rule = Callable[[Recipe, Sequence[ResolvedTerm]], Iterator[Finding]]

TermRule = Callable[[Sequence[ResolvedTerm], Sequence[str]], Iterator[Finding]]
"""A rule that needs the terms alone, so that a compiled objective can be held to it too; the names are those of the teachers
that may be proposed."""


def of_recipe(rule: TermRule) -> Rule:
    """The same rule for a whole recipe."""
    return lambda recipe, terms: rule(terms, tuple(recipe.teachers))
