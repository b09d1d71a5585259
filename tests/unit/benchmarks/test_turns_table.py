"""The table of several turns: who is in it, and that its environment is there."""

from __future__ import annotations

from benchmarks.pair_table import ROOT
from benchmarks.turns_table import ENVIRONMENTS, SEEDS, asked_for
from preceptor.compare import entries_of
from preceptor.demo.pair import Pair
from preceptor_rollout.environments import environments_of


def test_each_recipe_has_a_control_under_every_seed_and_an_environment_that_the_services_offer() -> None:
    entries = list(entries_of(asked_for(Pair.at(ROOT / "examples" / "tiny"), SEEDS, SEEDS)))
    assert [one.control for one in entries] == ["none", "permute_scores"] * 2 * SEEDS
    for one in entries:
        plan = one.plan()
        assert plan.evaluation
        named = {source.environment.name for source in plan.compiled.sources.values() if source.environment}
        assert named == {*environments_of(ENVIRONMENTS)}
        assert plan.compiled.recipe.evaluation
        assert plan.compiled.recipe.evaluation.source == "rollouts"
