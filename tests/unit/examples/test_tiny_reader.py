"""The reader as committed: weak on a bare sum, strong under the views of recipes whose teacher is a copy of the student."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from examples.tiny import task, train_pair
from examples.tiny.decode import accuracy, load_model
from examples.tiny.tokenizer import ASSISTANT_ID
from examples.tiny.try_views import under
from examples.tiny.views import VIEWS
from preceptor.recipes import load_recipe

ROOT = Path(__file__).parents[3]
SUMS = 32
RECIPES = {"opsd": "answer", "sdft": "answer", "opcd": "rule", "sdpo": "sibling", "sdpo-critique": "critique"}


@pytest.fixture(scope="module")
def reader():
    return load_model("reader")


def test_a_bare_sum_is_mostly_wrong(reader):
    assert accuracy(reader, task.load("heldout")[:SUMS]) <= 0.40


@pytest.mark.parametrize("view", VIEWS)
def test_the_same_sums_are_mostly_right_under_each_view(reader, view):
    assert under(reader, view, SUMS) >= 0.90


def places(problem: task.Problem) -> Mapping[str, str]:
    critique = f"Word 1 should be {problem.worked.split()[0]}."
    return {"prompt": problem.prompt, "answer": problem.answer, "sibling": problem.worked, "critique": critique}


@pytest.mark.parametrize(("recipe", "view"), RECIPES.items())
def test_what_it_has_read_is_what_the_recipe_shows(recipe, view):
    problem, draw = task.parse("793+297"), random.Random(1)
    shown = load_recipe(ROOT / "recipes" / f"{recipe}.yaml").teachers["self"].view
    assert shown is not None
    assert shown.format_map(places(problem)) in {VIEWS[view](problem, draw) for _ in range(50)}


def test_it_was_shown_sums_of_the_training_split_alone_and_bare_ones_with_what_the_student_drew(monkeypatch):
    drawn = {}

    def student_draws(problems):
        drawn.update((problem.prompt, f"drawn for {problem.prompt}") for problem in problems[:64])
        return list(drawn.items())

    monkeypatch.setattr(train_pair, "BARE_EXAMPLES", 64)
    monkeypatch.setattr(train_pair, "student_draws", student_draws)
    seen = {"bare": 0, "viewed": 0}
    for (ids, _), _ in zip(train_pair.reader_examples(), range(600), strict=False):
        at = ids.index(ASSISTANT_ID)
        prompt, response = train_pair.text_of(ids[:at]), train_pair.text_of(ids[at:])
        stated = prompt.rpartition(": ")[2].partition("=")[0]
        assert task.parse(stated).split == "train"
        assert (response == drawn.get(prompt)) == (prompt == stated)
        seen["bare" if prompt == stated else "viewed"] += 1
    assert 0.2 < seen["bare"] / 600 < 0.4


def test_what_the_student_draws_is_its_own_and_ended():
    problems = task.unique(task.problems("train", 8, level="hard"), 48)
    drawn = train_pair.student_draws(problems)
    assert drawn == train_pair.student_draws(problems)
    assert {prompt for prompt, _ in drawn} <= {problem.prompt for problem in problems}
    right = sum(task.is_correct(response, task.parse(prompt).answer) for prompt, response in drawn)
    assert 0 < right < len(drawn) / 2
