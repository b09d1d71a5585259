"""The table of black-box recipes: who is in it, what a run cost, and whether a control learned."""

from __future__ import annotations

from pathlib import Path

from benchmarks.black_box_table import COLUMNS, SPENT, facts, recipes, rows
from preceptor.compare import HEADER, Entry, Outcome, Spent
from preceptor.learner import Control


def outcome(name: str, after: float, spent: Spent | None, seed: int = 0, control: Control = "none") -> Outcome:
    entry = Entry(Path(f"{name}.yaml"), seed, control)
    return Outcome(entry, [(0.0, 0.2), (9.0, after)], 0.5, 100, 3.0, spent=spent)


def test_recipes_are_found_by_asking_a_judge() -> None:
    names = [path.stem for path in recipes()]
    assert names[:2] == ["grpo", "tiny-sft"]
    assert {"tiny-verbal", "ovd", "ropd", "rubric-kl", "sdpo-critique"} <= set(names)
    assert not {"sdpo", "tiny-k1", "gkd"} & set(names)
    assert len(set(names)) == len(names)


def test_a_row_says_what_a_run_cost_on_average() -> None:
    found = [
        outcome("a", 0.5, Spent(10, 200, 30, 0.5)),
        outcome("b", 0.4, None),
        outcome("a", 0.7, Spent(30, 400, 50, 1.5), seed=1),
        outcome("c", 0.1, Spent(1, 2, 3, None)),
    ]
    told = rows(found)
    assert [row[-4:] for row in told] == [("20", "300", "40", "1.00"), ("", "", "", ""), ("1", "2", "3", "unknown")]
    assert told[0][:3] == ("a", "2", "20.0 ± 0.0")
    assert {len(row) for row in told} == {len(COLUMNS) + len(SPENT)}
    assert "reverse KL" not in [HEADER[place] for place in COLUMNS]


def test_a_control_that_learned_is_named() -> None:
    still, learned = (outcome("a", after, None, control="permute_scores") for after in (0.2, 0.3))
    assert facts([still, outcome("a", 0.9, None)])["learned"] == "none"
    assert facts([learned])["learned"] == "a.permuted.seed-0"
