"""Comparisons: means with their errors, differences under one seed, and runs that are taken up where they were."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from preceptor.cli.compare import asked_for
from preceptor.compare import (
    Comparison,
    Entry,
    Outcome,
    compare,
    entries_of,
    estimate,
    markdown,
    outcome_of,
    paired_difference,
    rows_of,
)
from preceptor.errors import ConfigurationError, Unavailable
from preceptor.learner import Control, Ports
from preceptor.report.compare import CompareReport, render_compare
from tests.unit.preceptor.learner.world import PATIENCE, World, recipe

ROOT = Path(__file__).parents[4]


def outcome(name: str, seed: int, after: float, control: Control = "none", failure: str = "") -> Outcome:
    entry = Entry(Path(f"{name}.yaml"), seed, control)
    return Outcome(entry, failure=failure) if failure else Outcome(entry, [(0.0, 0.2), (9.0, after)], 0.5, 100, 3.0)


# ---------------------------------------------------------------- statistics


def test_a_mean_has_the_error_of_independent_values() -> None:
    found = estimate([1.0, 2.0, 3.0, 6.0])
    assert found.mean == 3.0
    assert found.error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    assert estimate([0.5]).told(100) == "50.0", "one value says nothing about its error"
    assert estimate([0.25, 0.75]).told(100, sign=True) == "+50.0 ± 25.0"


@given(st.dictionaries(st.integers(0, 9), st.floats(-1, 1), min_size=2), st.floats(-1, 1))
def test_what_all_seeds_share_is_no_part_of_a_difference(values: dict[int, float], shift: float) -> None:
    """Pairing takes the seed's own luck out: a constant gain has no error however far the seeds lie apart."""
    found = paired_difference({seed: value + shift for seed, value in values.items()}, values)
    assert found is not None
    assert found.mean == pytest.approx(shift, abs=1e-12)
    assert found.error == pytest.approx(0, abs=1e-12)


def test_only_seeds_that_both_have_are_compared() -> None:
    found = paired_difference({0: 1.0, 1: 5.0}, {1: 2.0, 2: 9.0})
    assert found is not None
    assert (found.mean, found.count) == (3.0, 1)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


# ---------------------------------------------------------------- tables


FOUND = [
    outcome("a", 0, 0.8), outcome("b", 0, 0.5), outcome("a", 0, 0.1, "permute_scores"),
    outcome("a", 1, 0.6), outcome("b", 1, 0.4), outcome("b", 2, 0.0, failure="UNAVAILABLE: nobody"),
]  # fmt: skip


def test_the_table_has_a_row_for_each_recipe_and_each_control() -> None:
    rows = rows_of(FOUND)
    assert [row[:6] for row in rows] == [
        ("a", "2", "20.0 ± 0.0", "70.0 ± 10.0", "+50.0 ± 10.0", ""),
        ("b", "2, 1 failed", "20.0 ± 0.0", "45.0 ± 5.0", "+25.0 ± 5.0", "-25.0 ± 5.0"),
        ("a, scores permuted", "1", "20.0", "10.0", "-10.0", "-70.0"),
    ]
    assert markdown(("x", "y"), [("1", "2")]) == "| x | y |\n| --- | --- |\n| 1 | 2 |"
    assert rows_of([outcome("c", 0, 0, failure="CONFLICT: no")])[0][:3] == ("c", "0", "failed: CONFLICT: no")


def test_the_page_says_how_far_it_is_and_escapes_what_others_wrote() -> None:
    bad = [*FOUND, outcome("d", 0, 0, failure="INTERNAL: <script>")]
    page = render_compare(CompareReport(bad, 9, Comparison([], 2)))
    assert "7 of 9 runs, 2 still to come" in page
    assert "<script>" not in page
    assert page.count("<polyline") == 3


# ---------------------------------------------------------------- runs


@pytest.fixture
def recipes(tmp_path: Path) -> list[Path]:
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"prompt": f"p{n}", "answer": "1"}) + "\n" for n in range(5)))
    paths = []
    for name in ("one", "two"):
        raw = recipe(steps=2) | {"data": {"path": "data.jsonl"}}
        raw["evaluation"] = {"path": "data.jsonl", "every_steps": 2, "max_response_tokens": 4}
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(raw))
    return paths


def test_every_recipe_runs_under_every_seed_and_its_control_beside_it(recipes: list[Path]) -> None:
    asked = Comparison(recipes, 2, control_seeds=2, overrides=["schedule.steps=1"])
    names = [entry.name for entry in entries_of(asked)]
    seed_0 = ["one.seed-0", "one.permuted.seed-0", "two.seed-0", "two.permuted.seed-0"]
    assert names == [*seed_0, *(name.replace("-0", "-1") for name in seed_0)]
    plan = list(entries_of(asked))[-1].plan()
    assert (plan.seed, plan.steps, plan.control) == (1, 1, "permute_scores")
    fewer = [entry.name for entry in entries_of(replace(asked, control_seeds=1))]
    assert fewer == [*seed_0, "one.seed-1", "two.seed-1"]
    longer = replace(asked, own={recipes[1]: ["schedule.steps=2"]})
    assert {(entry.recipe.stem, entry.plan().steps) for entry in entries_of(longer)} == {("one", 1), ("two", 2)}


@pytest.mark.parametrize(
    ("recipe", "controls"), [("examples/tiny/carries-reward", 1), ("examples/tiny/carries", 1), ("recipes/tiny-sft", 0)]
)
def test_a_reward_of_an_environment_has_a_control_as_scores_have(recipe: str, controls: int) -> None:
    found = list(entries_of(Comparison([ROOT / f"{recipe}.yaml"], 1, control_seeds=1)))
    assert [entry.control for entry in found] == ["none", *["permute_scores"] * controls]


def test_files_of_one_name_and_recipes_that_are_never_evaluated_are_refused(recipes: list[Path]) -> None:
    with pytest.raises(ConfigurationError, match="two recipes are called one"):
        list(entries_of(Comparison([recipes[0], Path("elsewhere/one.yaml")], 1)))
    with pytest.raises(ConfigurationError, match="no evaluation"):
        Entry(recipes[0], 0, overrides=["evaluation=null"]).plan()


def test_words_with_a_sign_are_overrides() -> None:
    asked = asked_for(["a.yaml", "schedule.steps=3", "b.yaml"], 2, True)
    assert ([str(one) for one in asked.recipes], list(asked.overrides)) == (["a.yaml", "b.yaml"], ["schedule.steps=3"])


async def test_a_comparison_goes_on_where_it_was_and_says_what_failed(recipes: list[Path], tmp_path: Path) -> None:
    opened: list[World] = []
    away = {2}

    @asynccontextmanager
    async def ports() -> AsyncGenerator[Ports]:
        world = World(tmp_path)
        opened.append(world)
        if len(opened) - 1 in away:
            raise Unavailable("the model cannot be read")
        async with world.working():
            yield Ports(world.rollout, world.student, world.teacher, world.queue)  # pyright: ignore[reportArgumentType]

    asked, seen = Comparison(recipes, 2), []

    async def again() -> list[Outcome]:
        return await compare(
            asked, tmp_path / "runs", ports, lambda _: None, lambda found, n: seen.append((len(found), n)), PATIENCE
        )

    found = await again()
    assert [bool(one.failure) for one in found] == [False, False, True, False]
    assert "the model cannot be read" in found[2].failure
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    mended = await again()
    assert [bool(one.failure) for one in mended] == [False] * 4
    assert len(opened) == 5, "what was done is read, not run"
    assert mended[0] == outcome_of(Entry(recipes[0], 0), tmp_path / "runs") == found[0]
    assert mended[0].tokens > 0
    assert mended[0].spent is not None
    assert mended[0].spent.calls > 0, "a judge grades in this world"
    assert mended[0].spent.cost_usd is None, "and has no prices"
