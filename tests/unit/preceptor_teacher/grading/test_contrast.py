"""Rubrics of what tells the teacher's answer from the student's: made once for a group, held to each response of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from preceptor.types import GradeItem, Validity, Verdict
from preceptor_teacher.graders import GroupGrader, Means
from preceptor_teacher.graders.asking import question_of
from preceptor_teacher.graders.contrast import SPEC, ContrastParams
from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.graders.rubric import RubricParams, induction_of
from preceptor_teacher.testing.judging import read_judging
from tests.unit.preceptor_teacher.grading.injections import INJECTIONS
from tests.unit.preceptor_teacher.grading.scripted import Judge, answers

MADE = [{"text": "It is 834.", "weight": 3}, {"text": "It is brief.", "weight": 1}]
MET = {"834": [True, True], "no": [False, True], "a lot of words": [False, False]}


class Verifier(Judge):
    """Makes the rubric by its script, and says of each response what stands in `MET`."""

    async def __call__(self, messages: Any, schema: Any = None):
        shown = fenced_texts(messages[-1]["content"])
        if "criteria" in shown:
            self.replies.insert(0, answers(met=MET[shown["response"]]) if shown["response"] in MET else "?")
        return await super().__call__(messages, schema)


def grader(judge: Judge, **params: Any) -> GroupGrader:
    made = SPEC.build(ContrastParams(**params), Means(judge, b"secret"))
    assert isinstance(made, GroupGrader)
    return made


def group(*responses: str, reference: str = "") -> list[GradeItem]:
    return [GradeItem("478+356", one, reference, group="7") for one in responses]


def summed(verdicts: list[Verdict]) -> int:
    return sum(one.calls for one in verdicts)


async def test_a_group_has_one_rubric_and_each_different_response_is_held_to_it_once() -> None:
    judge = Verifier("834", answers(criteria=MADE))
    verdicts = await grader(judge).grade_group(group("no", "834", "no", "a lot of words"))
    assert [one.reward for one in verdicts] == [0.25, 1.0, 0.25, 0.0]
    assert [one.calls for one in verdicts] == [3, 1, 0, 1], "the first bears what made the rubric, a repeat nothing"
    assert summed(verdicts) == len(judge.asked)
    assert verdicts[0].criteria == verdicts[2].criteria
    known = Verifier(answers(criteria=MADE))
    assert summed(await grader(known).grade_group(group("no", "834", reference="834"))) == 3


@pytest.mark.parametrize(("shown", "seen"), [(1, {"a": "no"}), (2, {"a": "no", "b": "834"}), (9, {"a": "no", "b": "834"})])
async def test_the_rubric_is_made_of_the_good_answer_and_the_first_different_responses(shown: int, seen: dict[str, str]) -> None:
    judge = Verifier(answers(criteria=MADE))
    await grader(judge, shown=shown, guidance="Be strict.").grade_group(group("no", "no", "834", reference="right"))
    asked = judge.asked[0][-1]["content"]
    assert fenced_texts(asked) == {"prompt": "478+356", "reference": "right", **seen}
    assert f"the responses {', '.join(seen)} that are worse" in asked
    assert "Be strict." in asked


async def test_without_a_rubric_the_group_is_missing_and_without_a_verification_one_response_is() -> None:
    none = await grader(Verifier("834", "?", "?")).grade_group(group("no", "834"))
    assert [(one.validity, one.reward, one.calls) for one in none] == [
        (Validity.MISSING_PROVIDER, None, 3),
        (Validity.MISSING_PROVIDER, None, 0),
    ]
    some = await grader(Verifier("834", answers(criteria=MADE), "?")).grade_group(group("odd", "834"))
    assert [(one.validity, one.reward) for one in some] == [(Validity.MISSING_PROVIDER, None), (Validity.OK, 1.0)]


async def test_no_text_breaks_the_fence_of_the_question_that_makes_a_rubric_or_makes_one() -> None:
    for text in INJECTIONS:
        inquiry = induction_of("p", "834", RubricParams(), (text, "834"))
        question = question_of(inquiry)
        assert fenced_texts(question.messages[-1]["content"]) == inquiry.texts
        judging = read_judging(question.messages[-1]["content"])
        assert judging is not None
        assert (judging.kind, judging.number) == ("criteria", question.number)
        items = [replace(one, response=words) for one, words in zip(group("", ""), (text, "834"), strict=True)]
        verdicts = await grader(Judge("834", text, text)).grade_group(items)
        assert {one.validity for one in verdicts} == {Validity.MISSING_PROVIDER}
