"""The learning table: which recipes it holds, under which rule, and of which commits its runs are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks import learning_table
from benchmarks.learning_table import OVERRIDES, ROOT, STEPS, asked_for, environment, measure, page_of, recipes, teachers
from preceptor.compare import Comparison, Outcome, entries_of
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
    file = environment(PAIR, tmp_path)["PRECEPTOR_TEACHER_TEACHERS_FILE"]
    assert yaml.safe_load(Path(file).read_text())["teachers"] == teachers(PAIR)


async def test_it_ends_when_its_time_is_over_and_names_every_commit_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = Comparison(recipes(PAIR)[:1], 2, 1, OVERRIDES)
    entries = list(entries_of(asked))

    async def compare(asked, runs, ports, watch, told, patiences):
        for count in range(1, len(entries) + 1):
            told([Outcome(one, [(0.0, 0.2), (9.0, 0.9)]) for one in entries[:count]], len(entries))

    monkeypatch.setattr(learning_table, "compare", compare)
    page = tmp_path / "page.md"
    for commit in ("abc", "abd", "abd"):
        monkeypatch.setattr(learning_table, "commit", lambda commit=commit: commit)
        assert len(await measure(PAIR, tmp_path, asked, [page], for_s=0)) == 1
    assert f"partial: 1 of {len(entries)} runs" in page.read_text()
    assert "runs made at commit abc, abd;" in page.read_text()
    assert "complete" in page_of(asked, [Outcome(one, [(0.0, 0.2), (9.0, 0.9)]) for one in entries], len(entries), tmp_path)
