"""Tables on the bundled pair: when they end, what their page says of them, and of which commits their runs are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import black_box_table, discriminator_table, learning_table, pair_table, self_teaching_table, turns_table
from benchmarks.pair_table import ROOT, PairTable, environment
from preceptor.compare import Comparison, Outcome, entries_of
from preceptor.demo.pair import Pair

PAIR = Pair.at(ROOT / "examples" / "tiny")
OVERRIDES = ("schedule.steps=3",)


def outcomes(asked: Comparison) -> list[Outcome]:
    return [Outcome(one, [(0.0, 0.2), (9.0, 0.9)]) for one in entries_of(asked)]


@pytest.fixture
def table(tmp_path: Path) -> PairTable:
    asked = Comparison([PAIR.recipe("verbal")], 2, 1, OVERRIDES)
    return PairTable(tmp_path, asked, "{state}, {commits}: {overrides}; {extra}\n{table}", [], facts=lambda _: {"extra": "e"})


async def test_it_ends_when_its_time_is_over_and_names_every_commit_that_ran(
    table: PairTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcomes(table.asked)

    async def compare(asked, runs, ports, watch, told, patiences):
        for count in range(1, len(found) + 1):
            told(found[:count], len(found))

    monkeypatch.setattr(pair_table, "compare", compare)
    table = replace(table, pages=[tmp_path / "elsewhere.md"])
    for commit in ("abc", "abd", "abd"):
        monkeypatch.setattr(pair_table, "commit", lambda commit=commit: commit)
        assert len(await table.measure(PAIR, tmp_path / "teachers.yaml", for_s=0)) == 1
    page = (tmp_path / "page.md").read_text()
    assert page == (tmp_path / "elsewhere.md").read_text()
    assert page.startswith(f"partial: 1 of {len(found)} runs, abc, abd: schedule.steps=3; e\n| recipe |")
    table.write(found, len(found))
    assert (tmp_path / "page.md").read_text().startswith("complete")


def test_the_services_are_told_of_the_pair_and_of_nothing_else_of_the_caller(tmp_path: Path) -> None:
    told = environment(PAIR, tmp_path / "teachers.yaml")
    assert told["PRECEPTOR_TEACHER_TEACHERS_FILE"] == str(tmp_path / "teachers.yaml")
    assert {name for name in told if name.endswith("_MODEL")} == {"PRECEPTOR_ROLLOUT_MODEL", "PRECEPTOR_STUDENT_MODEL"}


@pytest.mark.parametrize(
    ("page", "facts"),
    [
        (learning_table, {"steps": learning_table.STEPS}),
        (black_box_table, black_box_table.facts([])),
        (turns_table, {}),
        (self_teaching_table, {}),
        (discriminator_table, {}),
    ],
    ids=["learning", "black-box", "turns", "self-teaching", "discriminator"],
)
def test_the_text_of_each_page_has_places_for_its_facts_alone(
    table: PairTable, page: ModuleType, facts: dict[str, object]
) -> None:
    whole = replace(table, text=page.TEXT, facts=lambda _: facts)
    whole.write(outcomes(table.asked), 3)
    written = (table.folder / "page.md").read_text()
    assert "schedule.steps=3" in written
    assert "{" not in written
