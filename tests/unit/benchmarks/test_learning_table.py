"""The learning table: which recipes it holds, and under which rule."""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmarks.learning_table import ROOT, STEPS, asked_for, recipes, teachers, write_teachers_file
from preceptor.compare import entries_of
from preceptor.demo.pair import Pair
from preceptor.recipes import load_recipe
from preceptor.recipes.schedules import Ramp

PAIR = Pair.at(ROOT / "examples" / "tiny")


def test_every_recipe_whose_teachers_are_here_is_in_it_and_can_be_run_by_the_rule():
    chosen = recipes(PAIR)
    left = {path.stem for path in (ROOT / "recipes").glob("*.yaml")} - {path.stem for path in chosen}
    for name in left:
        assert {one.model for one in load_recipe(ROOT / "recipes" / f"{name}.yaml").teachers.values()} - teachers(PAIR).keys()
    assert {"tiny-sft", "off-policy-kd", "grpo", "exopd", "sdpo", "nitrobrew"} <= {path.stem for path in chosen}
    for entry in entries_of(asked_for(PAIR, 1, 0)):
        recipe = entry.load()
        assert recipe.schedule.steps == STEPS
        assert isinstance(recipe.optimizer.learning_rate, Ramp)
        assert recipe.optimizer.learning_rate.steps == STEPS
        assert entry.plan().evaluation


def test_the_services_are_told_of_these_teachers_alone(tmp_path: Path):
    assert yaml.safe_load(write_teachers_file(PAIR, tmp_path).read_text())["teachers"] == teachers(PAIR)
