"""Divergences fit their support: what corrects a tail has one to correct, and what stops a gradient has one to stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor.recipes.ops.reverse_kl import ReverseKlParams
from preceptor.recipes.ops.support import SupportParams
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule, TermRule
from preceptor.recipes.schema import STUDENT, Recipe


def on_supports(terms: Sequence[ResolvedTerm]) -> Iterator[tuple[ResolvedTerm, DivergenceParams, SupportParams]]:
    """The terms that compare both sides on a support, with what their two ops were told."""
    for one in terms:
        params, support = one.objective.params, one.signal.params if one.signal else None
        if isinstance(params, DivergenceParams) and isinstance(support, SupportParams):
            yield one, params, support


def _draws_correct_tails(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for one, params, support in on_supports(terms):
        if params.unbiased and support.sampled != "apart":
            why = "unbiased corrects the tail by a token drawn from it, and here the drawn token is never in the tail"
            yield Finding(Code.UNBIASED_WITHOUT_TAIL_DRAW, f"{one.where}.signal.params.sampled", why, "draw it apart",
                          (f"terms.{one.index}.signal.params.sampled=apart",))  # fmt: skip


def _students_draw(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one, params, _ in on_supports(terms):
        if params.unbiased and recipe.sources[one.term.on].writer != STUDENT:
            why = "unbiased counts on tokens that the student drew, and a teacher writes these"
            yield Finding(Code.UNBIASED_ON_TEACHER_TEXT, f"{one.where}.objective.params.unbiased", why, "leave it out",
                          (f"terms.{one.index}.objective.params.unbiased=false",))  # fmt: skip


def _whole_vocabularies_hide_nothing(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for one in terms:
        params, whole = one.objective.params, one.signal is not None and one.signal.spec.name == "hidden"
        if whole and isinstance(params, DivergenceParams) and params.unbiased:
            why = "unbiased corrects a tail, and hidden states leave none: every token is compared"
            yield Finding(Code.UNBIASED_WITHOUT_TAIL, f"{one.where}.objective.params.unbiased", why, "leave it out",
                          (f"terms.{one.index}.objective.params.unbiased=false",))  # fmt: skip
        if whole and isinstance(params, ReverseKlParams) and params.stop_gradient:
            yield from _stops_nothing(one, "leave it out")


def _gradients_stop_somewhere(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for one, params, support in on_supports(terms):
        if isinstance(params, ReverseKlParams) and params.stop_gradient and (support.tail or support.renormalise):
            yield from _stops_nothing(one, "leave it out, or set tail: false in the support")


def _stops_nothing(one: ResolvedTerm, advice: str) -> Iterator[Finding]:
    why = "stop_gradient changes nothing where the probabilities that are compared sum to one"
    field = "objective.params.stop_gradient"
    yield Finding(Code.STOPS_NO_GRADIENT, f"{one.where}.{field}", why, advice, (f"terms.{one.index}.{field}=false",))


TERM_RULES: tuple[TermRule, ...] = (_draws_correct_tails, _whole_vocabularies_hide_nothing, _gradients_stop_somewhere)
RULES: tuple[Rule, ...] = (_students_draw,)
