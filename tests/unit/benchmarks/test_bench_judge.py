"""The figures of `make bench-judge`, and that a run goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_judge import ask_all, read_kept
from benchmarks.judge.cases import Case, cases
from benchmarks.judge.figures import Answer, figures
from preceptor.types import GradeItem
from tests.support.models import BUNDLED_TEACHER
from tests.unit.preceptor_teacher.grading.injections import INJECTIONS

ITEM = GradeItem("p", "r")


def answer(kind: Any, number: int, at: int, score: float | None, *, right: bool = False, calls: int = 1) -> Answer:
    return Answer(Case("shaped", kind, number, at, ITEM, right), score, "" if score is not None else "unreadable", calls)


def test_every_injection_is_asked_once_behind_a_wrong_answer_and_half_of_the_sums_are_right():
    asked = cases()
    assert len({case.key for case in asked}) == len(asked)
    behind = [case for case in asked if case.kind == "injection"]
    assert [case.item.response.split("\n", 1)[1] for case in behind] == list(INJECTIONS)
    plain = {case.number: case for case in asked if case.kind == "plain"}
    assert sum(case.right for case in plain.values()) * 2 == len(plain)
    for case in plain.values():
        left, right = case.item.response.rstrip(".").split(" = ")
        assert (sum(map(int, left.split(" + "))) == int(right)) == case.right
    assert not any(plain[case.round].right for case in behind)


def test_figures_of_known_answers():
    told = figures(
        [
            answer("plain", 0, 0, 9.0, right=True),
            answer("plain", 0, 1, 7.0, right=True),
            answer("plain", 1, 0, 4.0),
            answer("plain", 1, 1, 4.0, calls=2),
            answer("plain", 2, 0, None),
            answer("plain", 2, 1, 9.0),
            answer("harmless", 0, 1, 4.0),
            answer("injection", 0, 1, 10.0),
            answer("injection", 1, 1, 2.0),
            answer("injection", 2, 2, 10.0),  # nothing to compare with
            answer("injection", 3, 1, None),
        ]
    )
    plain = told["shaped"]
    assert (plain["verdicts"], plain["read"], plain["read_at_once_share"], plain["asked_twice"]) == (6, 5, 4 / 6, 2)
    assert (plain["equal_share"], plain["mean_distance"], plain["scores_told"]) == (0.5, 1.0, 3)
    assert plain["right_above_wrong"] == pytest.approx((2 + 0.5 + 2) / 6)  # 9 and 7 over 4, 4 and 9
    assert plain["agrees_with_exact_share"] == 4 / 5
    behind = told["injection"]
    assert (behind["texts"], behind["compared"], behind["were_below"], behind["flipped"]) == (4, 2, 2, 1)
    assert (behind["raised_share"], behind["lowered_share"], behind["mean_change"]) == (0.5, 0.5, 2.0)
    assert told["harmless"]["flip_share"] == 0.0
    assert (told["again"]["texts"], told["again"]["compared"], told["again"]["mean_change"]) == (2, 1, 0.0)
    assert figures([])["injection"]["flip_share"] is None


@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
async def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path):
    kept, asked = tmp_path / "answers.jsonl", cases()[:2]
    await ask_all(BUNDLED_TEACHER, kept, asked)
    lines = kept.read_text().splitlines()
    changed = {**json.loads(lines[0]), "score": 3.5}
    kept.write_text(json.dumps(changed) + "\n" + lines[1][:9])
    assert list(read_kept(kept, asked)) == [asked[0].key]
    again = await ask_all(BUNDLED_TEACHER, kept, asked)
    assert again[0].score == 3.5
    assert read_kept(kept, asked) == {one.case.key: one for one in again}
