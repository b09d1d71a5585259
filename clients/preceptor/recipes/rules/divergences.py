"""Divergences fit their support: what corrects a tail has one to correct, and what stops a gradient has one to stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor.recipes.ops.reverse_kl import ReverseKlParams
from preceptor.recipes.ops.support import SupportParams
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.finding import Finding, Rule
from preceptor.recipes.schema import STUDENT, Recipe


def on_supports(terms: Sequence[ResolvedTerm]) -> Iterator[tuple[ResolvedTerm, DivergenceParams, SupportParams]]:
    """The terms that compare both sides on a support, with what their two ops were told."""
    for one in terms:
        params, support = one.objective.params, one.signal.params if one.signal else None
        if isinstance(params, DivergenceParams) and isinstance(support, SupportParams):
            yield one, params, support


def _draws_correct_tails(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one, params, support in on_supports(terms):
        if not params.unbiased:
            continue
        term = f"terms.{one.index}"
        if support.sampled != "apart":
            why = "unbiased corrects the tail by a token drawn from it, and here the drawn token is never in the tail"
            yield Finding(f"{one.where}.signal.params.sampled", why, "draw it apart", (f"{term}.signal.params.sampled=apart",))
        if recipe.sources[one.term.on].writer != STUDENT:
            why = "unbiased counts on tokens that the student drew, and a teacher writes these"
            yield Finding(f"{one.where}.objective.params.unbiased", why, "leave it out",
                          (f"{term}.objective.params.unbiased=false",))  # fmt: skip


def _gradients_stop_somewhere(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one, params, support in on_supports(terms):
        if isinstance(params, ReverseKlParams) and params.stop_gradient and (support.tail or support.renormalise):
            why = "stop_gradient changes nothing where the probabilities that are compared sum to one"
            field = f"{one.where}.objective.params.stop_gradient"
            yield Finding(field, why, "leave it out, or set tail: false in the support",
                          (f"terms.{one.index}.objective.params.stop_gradient=false",))  # fmt: skip


RULES: tuple[Rule, ...] = (_draws_correct_tails, _gradients_stop_somewhere)
