"""Terms can learn: their expected gradient depends on what a teacher said and on what the student did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops import Gradient
from preceptor.recipes.ops.support import SupportParams
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule
from preceptor.recipes.schedules import always
from preceptor.recipes.schema import STUDENT, Recipe

COMPARES = {
    "group_relative": "in a group of one, reward minus group mean is always zero",
    "reward_pairs": "a group of one has no pair",
    "pass_rate": "in a group of one the pass rate is 0 or 1",
    "pass_rate_within": "in a group of one the pass rate is 0 or 1",
    "perplexity": "in a group of one every weight is one",
}


def _somebody_teaches(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        by_student = recipe.sources[one.term.on].writer == STUDENT
        gradient = one.objective.spec.gradient
        chosen = any(use.reading for use in (*one.when, *one.token_weights, *one.sample_weights))
        if by_student and gradient is Gradient.LIKELIHOOD and not chosen:
            why = "imitating its own draws teaches the student nothing: no teacher is in the gradient"
            yield Finding(
                Code.NOBODY_TEACHES,
                f"{one.where}.on",
                why,
                "take a source that a teacher writes, or let a teacher choose with `when`",
            )
        if not by_student and gradient is Gradient.SCORE_FUNCTION:
            yield Finding(Code.GRADIENT_ON_TEACHER_TEXT, f"{one.where}.on",
                          "a policy gradient is right only for tokens that the student itself drew",
                          "take a source that the student writes, or a divergence")  # fmt: skip


def _sides_differ(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        writers = {recipe.sources[name].writer for name in one.sources}
        if len(one.sources) > 1 and len(writers) == 1:
            why = "both sides have the same writer, so which one is chosen says nothing"
            yield Finding(
                Code.PAIR_OF_ONE_WRITER,
                f"{one.where}.pairs.params.rejected",
                why,
                "let a teacher write the chosen side, or use reward_pairs",
            )


def _groups_compare(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        if recipe.sources[one.term.on].samples_per_prompt > 1:
            continue
        field = f"sources.{one.term.on}.samples_per_prompt"
        for use in one.uses:
            if why := COMPARES.get(use.op.spec.name):
                yield Finding(Code.GROUP_OF_ONE, field, why, "draw two or more", (f"{field}=2",))


def _baselines_are_blind(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """With the drawn token in its support, the partition of a row, and so the baseline, is another for each token."""
    for use in (use for one in terms for use in one.advantage):
        support = use.reading.signal.params if use.reading else None
        if use.op.spec.name == "kl_baseline" and isinstance(support, SupportParams) and support.sampled is True:
            why = "a baseline over a support that holds the drawn token depends on the drawn token and biases the gradient"
            yield Finding(
                Code.BASELINE_SEES_DRAW,
                use.where,
                why,
                "set sampled: false in its support; list the teacher a second time for it",
            )


def _something_moves(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        if always(one.term.weight, 0.0):
            yield Finding(Code.WEIGHT_ZERO, f"{one.where}.weight",
                          "a weight of zero leaves the term without gradient", "remove the term",
                          (f"terms.{one.index}.weight=1",))  # fmt: skip
    if always(recipe.optimizer.learning_rate, 0.0):
        yield Finding(Code.RATE_ZERO, "optimizer.learning_rate", "at a rate of zero nothing is learned", "set a rate above zero")


RULES: tuple[Rule, ...] = (_somebody_teaches, _sides_differ, _groups_compare, _baselines_are_blind, _something_moves)
