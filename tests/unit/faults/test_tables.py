"""What the fault suite says of its runs: the tables count what the outcomes hold, and a stopped command goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.kills import POINTS, ROUNDS, point_of
from tests.faults.marks import Kill, MarkingHooks, marks
from tests.faults.results import PAGE, Outcome, append, kill_table, page_with, read, story_table

FINE = Outcome("kill", "worker: rows computed", 1, 1, 0, 0, True, 2.0)


def test_every_point_comes_as_often_as_asked() -> None:
    turns = [point_of(seed) for seed in range(1, ROUNDS * len(POINTS) + 1)]
    assert {turns.count(point) for point in POINTS} == {ROUNDS}


def test_the_table_counts_what_was_lost_repeated_and_different() -> None:
    runs = [
        FINE,
        replace(FINE, seed=2, lost_steps=1),
        replace(FINE, seed=3, repeated_steps=2),
        replace(FINE, seed=4, equal=False),
    ]
    *_, row = kill_table([*runs, replace(FINE, seed=5, hit=0)], POINTS)
    assert row == "| worker: rows computed | 4 | 1 | 2 | 1 of 4 |"


def test_the_last_run_of_a_story_counts() -> None:
    told = replace(FINE, kind="story", name="stopped", problem="lost", detail="")
    *_, row = story_table([told, replace(told, problem="", detail="all there")])
    assert row == "| stopped | all there | 2 |"


def test_outcomes_are_read_back_without_the_half_line_of_a_killed_command(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    append(path, FINE)
    with path.open("a") as file:
        file.write('{"kind": "ki')
    assert read(path) == [FINE]
    assert read(tmp_path / "none") == []


def test_the_page_has_the_parts_that_the_commands_write() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("faults", "episodes", "fuzz"):
        assert "| a row |" in page_with(name, ["| a row |"], page)
    with pytest.raises(ValueError, match="no part called other"):
        page_with("other", [], page)


def test_hooks_write_each_point_before_anything_else(tmp_path: Path) -> None:
    hooks = MarkingHooks(tmp_path / "marks", Kill())
    for _ in range(3):
        hooks.reached("rows read")
    assert marks(tmp_path / "marks") == {("reached", "rows read"): 3}
