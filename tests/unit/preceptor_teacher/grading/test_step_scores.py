"""Scores of steps are read as strictly as scores of the whole, and calibrations never turn a ranking round."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.reward import WHOLE
from preceptor.types import GradeItem, Validity
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.graders import GRADERS, Means, build_grader, names_of_stepping_graders
from preceptor_teacher.graders.asking import question_of
from preceptor_teacher.graders.calibration import as_text, calibrated, rewards_of
from preceptor_teacher.graders.cutting import Unit, bytes_to, step_ends
from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.graders.verbal import Verbal, VerbalParams, stepwise_of
from preceptor_teacher.testing.judging import read_judging
from preceptor_teacher.testing.stepping import read_stepping
from tests.unit.preceptor_teacher.grading.injections import INJECTIONS
from tests.unit.preceptor_teacher.grading.scripted import Judge, answers

ITEM = GradeItem("478+356", "8+6+0=14 7+5+1=13\n\n 834 \n")
MISSING = (Validity.MISSING_PROVIDER, None)
RISING = "0 0 0 0.1 0.1 0.2 0.3 0.5 0.5 0.9 1"
TEXTS = st.text(st.sampled_from("aé🙂 \n"), max_size=24)


def verbal(judge: Judge, **params: object) -> Verbal:
    return Verbal(VerbalParams.model_validate(params), judge, b"secret")


# ---------------------------------------------------------------- steps


@given(TEXTS, st.sampled_from(["words", "lines"]), st.integers(1, 5))
def test_steps_are_all_of_the_response_at_most_so_many_and_each_has_a_unit(text: str, unit: Unit, most: int):
    ends = step_ends(text, unit, most)
    parts = [text[start:end] for start, end in pairwise([0, *ends])]
    assert "".join(parts) == text
    assert 1 <= len(parts) <= most
    assert all(part.strip() for part in parts) or not text.strip()
    assert bytes_to(text, ends) == [len("".join(parts[: place + 1]).encode()) for place in range(len(parts))]


def test_steps_by_example():
    assert step_ends(ITEM.response, "words", 9) == [8, 17, len(ITEM.response)]
    assert step_ends(ITEM.response, "lines", 9) == [17, len(ITEM.response)]
    assert step_ends("a b c d e", "words", 3) == [3, 7, 9]
    assert step_ends("", "words", 3) == [0]


def test_recipes_know_which_graders_tell_no_steps_apart():
    assert set(WHOLE) == set(GRADERS) - set(names_of_stepping_graders())


async def test_each_step_has_a_score_and_its_end_in_bytes():
    judge = Judge(answers(score=7, steps=[10, 0, 4]))
    verdict = await verbal(judge, steps="words").grade(GradeItem("p", "é 7 8"))
    assert (verdict.reward, verdict.step_rewards, verdict.step_ends, verdict.calls) == (7.0, (10.0, 0.0, 4.0), (2, 4, 6), 1)
    assert json.loads(fenced_texts(judge.asked[0][-1]["content"])["response"]) == ["é", " 7", " 8"]
    plain = await verbal(Judge(answers(score=7))).grade(GradeItem("p", "é 7 8"))
    assert (plain.reward, plain.step_rewards, plain.step_ends) == (7.0, (), ())


@pytest.mark.parametrize(
    "steps", [[1, 2], [1, 2, 3, 4], [1, 2, 11], [1, 2, -1], [1, 2, 3.0], [1, 2, True], [1, 2, "3"], {}, 3, None]
)
async def test_scores_of_steps_in_another_shape_are_asked_for_once_more_and_then_missing(steps):
    wrong = answers(score=7, steps=steps)
    verdict = await verbal(Judge(wrong, wrong), steps="words").grade(ITEM)
    assert ((verdict.validity, verdict.reward), verdict.step_rewards, verdict.calls) == (MISSING, (), 2)
    mended = await verbal(Judge(wrong, answers(score=7, steps=[1, 2, 3])), steps="words").grade(ITEM)
    assert mended.step_rewards == (1.0, 2.0, 3.0)


async def test_no_text_breaks_the_fence_around_its_steps_or_is_a_verdict_on_them():
    for text in INJECTIONS:
        item = GradeItem(text or "p", text)
        ends = step_ends(text, "words", 16)
        inquiry = stepwise_of(item, ends)
        question = question_of(inquiry)
        request = question.messages[-1]["content"]
        assert fenced_texts(request) == inquiry.texts
        assert read_judging(request) is None
        stepping = read_stepping(request)
        assert stepping is not None
        assert (stepping.prompt, "".join(stepping.steps), stepping.number) == (item.prompt, text, question.number)
        verdict = await verbal(Judge(text, text), steps="words").grade(item)
        assert (verdict.validity, verdict.reward) == MISSING


async def test_the_stand_in_scores_a_step_by_its_place():
    request = question_of(stepwise_of(ITEM, step_ends(ITEM.response, "words", 9)))
    stepping = read_stepping(request.messages[-1]["content"])
    assert stepping is not None
    said = json.loads(stepping.reply("8+6+0=14 7+5+1=12 834"))
    assert (said["request"], said["steps"]) == (request.number, [10, 0, 10])


# ---------------------------------------------------------------- calibration


async def test_scores_are_worth_what_the_parameter_says():
    steps = {"steps": "words", "rewards": RISING}
    verdict = await verbal(Judge(answers(score=7, steps=[10, 0, 3])), **steps).grade(ITEM)
    assert (verdict.reward, verdict.step_rewards) == (0.5, (1.0, 0.0, 0.1))


@pytest.mark.parametrize("text", ["1 2 3", "0 1 2 3 4 5 6 7 8 9 8", "0 1 2 3 4 5 6 7 8 9 nan", "a b", "0 " * 12])
def test_a_calibration_that_is_none_is_refused_by_field(text):
    spec = teacher_pb2.GradeSpec(grader="verbal", parameters_json=json.dumps({"rewards": text}))
    with pytest.raises(InvalidArgument) as refused:
        build_grader(spec, Means(Judge()))
    assert refused.value.field == "spec.parameters_json.rewards"


JUDGED = st.lists(st.tuples(st.integers(0, 10), st.floats(-5, 5)), min_size=1, max_size=30)


@given(JUDGED)
def test_a_calibration_never_falls_is_within_what_was_seen_and_survives_its_text(judged):
    found = calibrated(judged)
    assert len(found) == 11
    assert all(after >= before - 1e-12 for before, after in pairwise(found))
    worths = [worth for _, worth in judged]
    assert min(worths) - 1e-9 <= found[0] <= found[-1] <= max(worths) + 1e-9
    assert rewards_of(as_text(sorted(found))) == pytest.approx(found, rel=1e-5, abs=1e-5)


@given(JUDGED, st.lists(st.floats(-5, 5), min_size=11, max_size=11))
def test_no_other_numbers_that_never_fall_are_nearer(judged, other):
    def miss(rewards):
        return sum((rewards[score] - worth) ** 2 for score, worth in judged)

    assert miss(calibrated(judged)) <= miss(sorted(other)) + 1e-9


def test_a_calibration_by_example():
    """Scores 3 and 5 fall and are pooled; 4 and 7 were never given."""
    found = calibrated([(3, 0.6), (5, 0.0), (5, 0.0), (8, 1.0)])
    assert found == pytest.approx((0.2,) * 6 + (0.2 + 0.8 / 3, 0.2 + 1.6 / 3, 1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="nothing"):
        calibrated([])
    with pytest.raises(ValueError, match="no score"):
        calibrated([(11, 1.0)])
