"""The task of the bundled pair: no item in two splits, sums worked right, answers checked exactly."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.tiny import task
from examples.tiny.task import Problem, final_answer, is_correct

OPERAND = st.integers(100, 999)
PROBLEM = st.builds(Problem, OPERAND, OPERAND)


def test_the_module_is_light():
    code = (
        "import sys, examples.tiny.task; print([m for m in ('torch', 'transformers', 'tokenizers', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_no_sum_is_in_two_splits_in_either_order():
    files = {split: task.load(split) for split in ("distil", "heldout")}
    files["train"] = list(islice(task.problems("train", 1), 20_000))
    items = {split: {tuple(sorted((p.a, p.b))) for p in problems} for split, problems in files.items()}
    assert not items["train"] & items["distil"]
    assert not items["train"] & items["heldout"]
    assert not items["distil"] & items["heldout"]


@given(PROBLEM)
def test_the_order_of_the_operands_does_not_change_the_split(problem):
    assert problem.split == Problem(problem.b, problem.a).split


@pytest.mark.parametrize("split", ["train", "distil", "heldout"])
@pytest.mark.parametrize("level", ["easy", "hard"])
def test_a_stream_gives_only_its_split_and_level_and_the_same_again_for_its_seed(split, level):
    problems = list(islice(task.problems(split, 5, level=level), 300))
    assert {(p.split, p.level) for p in problems} == {(split, level)}
    assert problems == list(islice(task.problems(split, 5, level=level), 300))
    assert problems != list(islice(task.problems(split, 6, level=level), 300))


@given(PROBLEM)
def test_the_worked_response_adds_up_and_is_correct(problem):
    *steps, answer = problem.worked.split(" ")
    sums = [int(step.split("=")[1]) for step in steps]
    parts = [[int(x) for x in step.split("=")[0].split("+")] for step in steps]
    assert [sum(part) for part in parts] == sums
    assert [part[2] for part in parts] == [0, *(total // 10 for total in sums[:-1])]
    assert problem.a + problem.b == sum(total % 10 * 10**i for i, total in enumerate(sums)) + sums[-1] // 10 * 1000
    assert is_correct(problem.worked, answer)
    assert int(answer) == problem.a + problem.b


@given(PROBLEM)
def test_hard_means_that_a_carry_runs_on(problem):
    carries = [total >= 10 for total in (x + y + carry for x, y, carry in problem.columns)]
    assert (problem.level == "hard") == (sum(carries) >= 2)
    if not any(first and second for first, second in pairwise(carries)) and problem.level == "hard":
        assert carries == [True, False, True]


@given(PROBLEM)
def test_a_prompt_is_parsed_back(problem):
    assert task.parse(problem.prompt) == problem


@pytest.mark.parametrize(
    ("response", "answer"),
    [("8+6+0=14 834", "834"), ("834", "834"), (" 834 \n", "834"), ("834.", None), ("8+6+0=14", None), ("x834", None), ("", None)],
)
def test_only_a_number_of_its_own_at_the_end_is_an_answer(response, answer):
    assert final_answer(response) == answer


def test_an_answer_with_a_leading_zero_is_wrong():
    assert not is_correct("0834", "834")


@pytest.mark.parametrize(("split", "count"), [("distil", task.DISTIL_ITEMS), ("heldout", task.HELDOUT_ITEMS)])
def test_the_committed_data_is_what_the_module_writes(split, count):
    text = (task.DATA_DIR / f"{split}.jsonl").read_text()
    assert text == task.data_lines(split)
    records = [json.loads(line) for line in text.splitlines()]
    assert len({record["prompt"] for record in records}) == count
    assert all(str(sum(map(int, record["prompt"].split("+")))) == record["answer"] for record in records)
    assert {problem.level for problem in task.load(split)} == {"hard"}
