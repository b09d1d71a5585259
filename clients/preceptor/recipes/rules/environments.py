"""Rollouts of several turns: somebody answers, rewards come from where there is one, and evaluations are played as sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.environments import ENVIRONMENT
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule, TermRule
from preceptor.recipes.schema import Recipe
from preceptor.suggest import did_you_mean


def _speaks_for_itself(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    """Its reward has no teacher, and nothing else comes from it."""
    for reading in (reading for one in terms for reading in one.readings):
        is_reward = reading.signal.spec.name == ENVIRONMENT
        where = f"{reading.where.removesuffix('.signal')}.teacher"
        if is_reward and reading.teacher != ENVIRONMENT:
            yield Finding(
                Code.ENVIRONMENT_HAS_NO_TEACHER,
                where,
                f"{reading.teacher} does not give the reward of an environment",
                "remove the teacher",
            )
        if reading.teacher == ENVIRONMENT and not is_reward:
            why = f"an environment gives a reward, and no {reading.signal.spec.name}"
            yield Finding(Code.ENVIRONMENT_GIVES_REWARDS, where, why, "name a teacher, or signal: environment")


def _rewards_are_given(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        for reading in one.readings:
            if reading.teacher == ENVIRONMENT and recipe.sources[one.term.on].environment is None:
                why = f"the rollouts of {one.term.on!r} have no environment, so nobody gives them this reward"
                yield Finding(Code.NO_ENVIRONMENT, reading.where, why, f"name one in sources.{one.term.on}.environment")


def _evaluations_take_turns(recipe: Recipe, _terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """Held-out prompts are answered as some source is, where that makes a difference."""
    like = recipe.evaluation.source if recipe.evaluation else None
    if like is None:
        return
    where, source = "evaluation.source", recipe.sources.get(like)
    if source is None:
        yield Finding(Code.UNKNOWN_SOURCE, where, f"there is no source {like!r}", did_you_mean(like, recipe.sources))
    elif source.environment is None and not source.stop:
        why = f"the rollouts of {like!r} have no environment and no stop texts, so this changes nothing"
        yield Finding(Code.EVALUATION_SOURCE_IDLE, where, why, "remove it", (f"{where}=null",))


TERM_RULES: tuple[TermRule, ...] = (_speaks_for_itself,)
RULES: tuple[Rule, ...] = (_rewards_are_given, _evaluations_take_turns)
