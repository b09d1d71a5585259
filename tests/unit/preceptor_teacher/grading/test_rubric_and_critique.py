"""Rubrics are made once a prompt and read strictly; critiques are bounded; what a student writes stays data for both."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from preceptor.errors import InvalidArgument
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.recipes.strict_yaml import read_yaml
from preceptor.types import Criterion, GradeItem, Validity
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.graders import Means, build_grader
from preceptor_teacher.graders.asking import question_of
from preceptor_teacher.graders.critique import Critique, CritiqueParams, critique_of
from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.graders.rubric import CriterionParams, Rubric, RubricParams, induction_of, verification_of
from preceptor_teacher.testing.judging import read_judging
from tests.unit.preceptor_teacher.grading.injections import INJECTIONS
from tests.unit.preceptor_teacher.grading.scripted import Judge, answers

ITEM = GradeItem("478+356", "834")
MADE = [{"text": "It is 834.", "weight": 3}, {"text": "It is brief.", "weight": 1}]
GIVEN = tuple(CriterionParams(**one) for one in MADE)
MISSING = (Validity.MISSING_PROVIDER, None)


def rubric(judge: Judge, **params: Any) -> Rubric:
    return Rubric(RubricParams(**params), judge, b"secret")


def one_by_one(spec: teacher_pb2.GradeSpec, judge: Judge) -> Rubric:
    made = build_grader(spec, Means(judge))
    assert isinstance(made, Rubric)
    return made


@pytest.mark.parametrize(("met", "reward"), [([True, False], 0.75), ([True, True], 1.0), ([False, False], 0.0)])
async def test_the_reward_is_the_weight_that_is_met_and_each_criterion_can_be_read(met, reward):
    verdict = await rubric(Judge("834", answers(criteria=MADE), answers(met=met))).grade(ITEM)
    assert (verdict.validity, verdict.reward, verdict.calls, verdict.tokens) == (Validity.OK, reward, 3, 30)
    assert [(one.name, one.score) for one in verdict.criteria] == [("c1", float(met[0])), ("c2", float(met[1]))]
    sent_back = [asdict(one.criterion) for one in verdict.criteria]
    again = await rubric(Judge(answers(met=met)), criteria=sent_back).grade(ITEM)
    assert (again.reward, again.criteria, again.calls) == (reward, verdict.criteria, 1)
    scaled = [{**one, "weight": 5e4 * one["weight"]} for one in sent_back]
    assert (await rubric(Judge(answers(met=met)), criteria=scaled).grade(ITEM)).reward == reward


async def test_a_rubric_is_made_in_the_same_words_for_every_response_and_a_reference_saves_the_own_answer():
    judge = Judge(*("834", answers(criteria=MADE), answers(met=[True, False])) * 2)
    for response in ("834", "a try"):
        await rubric(judge).grade(replace(ITEM, response=response))
    assert judge.asked[:2] == judge.asked[3:5]
    assert judge.asked[2] != judge.asked[5]
    known = Judge(answers(criteria=MADE), answers(met=[True, True]))
    assert (await rubric(known).grade(replace(ITEM, reference="834"))).calls == 2


@pytest.mark.parametrize(
    "criteria",
    [
        [],
        MADE * 5,
        {},
        ["It is 834."],
        [{"text": "a"}],
        [{"text": " ", "weight": 1}],
        [{"text": "a" * 501, "weight": 1}],
        [{"text": "\ud800", "weight": 1}],
        [{"text": "a", "weight": 0}],
        [{"text": "a", "weight": 1.5}],
        [{"text": "a", "weight": True}],
        [{"text": "a", "weight": 1, "why": "b"}],
    ],
)
async def test_a_rubric_in_another_shape_is_asked_for_once_more_and_then_missing(criteria):
    judge = Judge("834", answers(criteria=criteria), answers(criteria=criteria))
    verdict = await rubric(judge).grade(ITEM)
    assert ((verdict.validity, verdict.reward), verdict.calls) == (MISSING, 3)
    mended = Judge("834", answers(criteria=criteria), answers(criteria=MADE), answers(met=[True, False]))
    assert (await rubric(mended).grade(ITEM)).reward == 0.75


@pytest.mark.parametrize("met", [[True], [True, False, True], [1, 0], ["true", "false"], [True, None], True, {}])
async def test_a_verification_that_does_not_say_true_or_false_of_each_is_missing(met):
    verdict = await rubric(Judge(answers(met=met), answers(met=met)), criteria=GIVEN).grade(ITEM)
    assert ((verdict.validity, verdict.reward), verdict.criteria, verdict.calls) == (MISSING, (), 2)


@pytest.mark.parametrize("fields", [{"refused": True}, {"finish_reason": "length"}])
async def test_refused_and_cut_off_answers_of_its_own_are_no_reference(fields):
    verdict = await rubric(Judge("834", **fields)).grade(ITEM)
    assert ((verdict.validity, verdict.reward), verdict.calls) == (MISSING, 1)


async def test_criteria_of_the_message_are_those_of_the_parameters():
    given = [teacher_pb2.Criterion(name="right", text="It is 834.", weight=3), teacher_pb2.Criterion(text="b", weight=1)]
    spec = teacher_pb2.GradeSpec(grader="rubric", criteria=given)
    verdict = await one_by_one(spec, Judge(answers(met=[True, False]))).grade(ITEM)
    assert (verdict.reward, [one.name for one in verdict.criteria]) == (0.75, ["right", "c2"])


async def test_criteria_of_a_recipe_reach_the_judge_and_no_rubric_is_made():
    raw = read_yaml(Path("recipes/tiny-verbal.yaml"))
    raw["terms"][0]["signal"]["params"] = {"grader": "rubric", "criteria": [{"text": "It is 834.", "weight": 3}, {"text": "b"}]}
    grading = compile_recipe(recipe_from(raw)).teachers["judge"].grading
    assert grading is not None
    spec = teacher_pb2.GradeSpec(grader=grading.grader, parameters_json=grading.parameters_json)
    judge = Judge(answers(met=[True, False]))
    verdict = await one_by_one(spec, judge).grade(ITEM)
    assert [one.criterion for one in verdict.criteria] == [Criterion("It is 834.", 3.0, "c1"), Criterion("b", 1.0, "c2")]
    assert (verdict.reward, verdict.calls) == (0.75, 1)
    raw["terms"][0]["signal"]["params"]["grader"] = "verbal"
    with pytest.raises(InvalidArgument, match="criteria belong to grader rubric"):
        compile_recipe(recipe_from(raw))


@pytest.mark.parametrize(
    ("criteria", "parameters", "field"),
    [
        ([{"text": "a", "weight": 0}], "", "spec.parameters_json.criteria.0.weight"),
        ([{"text": "a", "weight": float("nan")}], "", "spec.parameters_json.criteria.0.weight"),
        ([{"text": "", "weight": 1}], "", "spec.parameters_json.criteria.0.text"),
        ([{"name": "c2", "text": "a", "weight": 1}, {"text": "b", "weight": 1}], "", "spec.parameters_json.criteria"),
        ([{"text": "a", "weight": 1}], '{"criteria": []}', "spec.criteria"),
        ([], '{"most_criteria": 33}', "spec.parameters_json.most_criteria"),
    ],
)
def test_wrong_rubrics_are_refused_by_field(criteria, parameters, field):
    spec = teacher_pb2.GradeSpec(grader="rubric", criteria=criteria, parameters_json=parameters)
    with pytest.raises(InvalidArgument) as refused:
        build_grader(spec, Means(Judge()))
    assert refused.value.field == field


# ---------------------------------------------------------------- critiques


async def test_a_critique_comes_beside_its_score():
    verdict = await Critique(CritiqueParams(), Judge(answers(score=4, critique="The carry is lost."))).grade(ITEM)
    assert (verdict.reward, verdict.critique, verdict.calls) == (4.0, "The carry is lost.", 1)


@pytest.mark.parametrize("text", ["", " ", "12345678901", 7, None, "\udfff"])
async def test_a_critique_that_is_too_long_or_none_is_missing(text):
    wrong = answers(score=4, critique=text)
    judge = Critique(CritiqueParams(most_chars=10), Judge(wrong, wrong))
    verdict = await judge.grade(ITEM)
    assert ((verdict.validity, verdict.reward), verdict.critique, verdict.calls) == (MISSING, "", 2)
    longest = await Critique(CritiqueParams(most_chars=10), Judge(answers(score=4, critique="\U0001f642" * 10))).grade(ITEM)
    assert longest.critique == "\U0001f642" * 10


# ---------------------------------------------------------------- injections


async def test_no_text_breaks_a_fence_or_is_a_second_verdict():
    for text in INJECTIONS:
        item = GradeItem(text or "p", text)
        criteria = (*GIVEN, CriterionParams(text=text[:500] or "-"))
        for inquiry in (
            induction_of(item.prompt, text, RubricParams()),
            verification_of(item, criteria),
            critique_of(item, CritiqueParams()),
        ):
            question = question_of(inquiry)
            request = question.messages[-1]["content"]
            assert fenced_texts(request) == inquiry.texts
            judging = read_judging(request)
            assert judging is not None
            assert (judging.prompt, judging.number) == (item.prompt, question.number)
        for grader in (
            Rubric(RubricParams(), Judge(text, text, text)),
            Rubric(RubricParams(criteria=GIVEN), Judge(text, text)),
            Critique(CritiqueParams(), Judge(text, text)),
        ):
            verdict = await grader.grade(item)
            assert (verdict.validity, verdict.reward) == MISSING
