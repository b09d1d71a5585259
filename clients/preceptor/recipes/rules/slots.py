"""Slots fit the objective: a policy gradient takes an advantage, a preference takes pairs, and nothing else takes either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops import Gradient, Kind
from preceptor.recipes.ops.spec import REWARDS
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, TermRule

NEAREST = {**dict.fromkeys(REWARDS, "group_relative"), "step_reward": "step_belief"}
"""Signal -> the advantage that starts from it; k1 for the others."""


def _advantages(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for one in terms:
        where, objective = f"{one.where}.advantage", one.objective.spec
        key = f"terms.{one.index}.advantage"
        if not objective.takes_advantage and one.advantage:
            yield Finding(
                Code.ADVANTAGE_UNUSED, where, f"{objective.name} has no use for an advantage", "remove it", (f"{key}=null",)
            )
        elif objective.takes_advantage and not one.advantage:
            nearest = NEAREST.get(one.signal.spec.name if one.signal else "", "k1")
            why = f"without an advantage {objective.name} has zero expected gradient"
            yield Finding(Code.NO_ADVANTAGE, where, why, "name one, such as k1", (f"{key}={nearest}",))
        elif one.advantage and one.advantage[0].op.spec.kind is Kind.TRANSFORM:
            why = f"{one.advantage[0].op.spec.name} changes an advantage, and none stands before it"
            yield Finding(Code.TRANSFORM_OF_NOTHING, one.advantage[0].where, why, "start with an advantage such as k1")


def _preferences(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for one in terms:
        name, preference = one.objective.spec.name, one.objective.spec.gradient is Gradient.PREFERENCE
        term = f"terms.{one.index}"
        if preference and one.pairs is None:
            yield Finding(
                Code.NO_PAIRS,
                f"{one.where}.pairs",
                f"{name} compares two responses, and nothing says which",
                "name reward_pairs or source_pairs",
            )
        if not preference and one.pairs is not None:
            yield Finding(
                Code.PAIRS_UNUSED,
                f"{one.where}.pairs",
                f"{name} looks at one response at a time",
                "remove pairs",
                (f"{term}.pairs=null",),
            )
        if preference and (one.token_weights or one.sample_weights):
            slot = "token_weights" if one.token_weights else "sample_weights"
            yield Finding(Code.WEIGHTS_ON_PAIRS, f"{one.where}.{slot}",
                          f"{name} weighs whole pairs, so this would change nothing", "remove it",
                          (f"{term}.{slot}=null",))  # fmt: skip
        if preference != (one.term.normaliser == "pairs"):
            fits = "pairs" if preference else "rows"
            yield Finding(Code.NORMALISER_UNFIT, f"{one.where}.normaliser",
                          f"{name} is not counted in {one.term.normaliser}", f"count {fits}",
                          (f"{term}.normaliser={fits}",))  # fmt: skip


TERM_RULES: tuple[TermRule, ...] = (_advantages, _preferences)
