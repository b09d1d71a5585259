"""A judge that is asked several times about one response: the median counts, and its verdict says how far they agree."""

from __future__ import annotations

from itertools import combinations
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument
from preceptor.types import GradeItem, Validity, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.graders import GroupGrader, Means, build_grader
from preceptor_teacher.graders.sampling import share_agreeing
from preceptor_teacher.graders.watching import Judgements
from tests.unit.preceptor_teacher.grading.scripted import Judge, answers, says

ITEM = GradeItem("478+356", "8+6+0=14 834")
CRITERIA = '{"criteria": [{"text": "A", "weight": 3}, {"text": "B"}], "samples": 3}'


async def judged(grader: str, parameters: str, *replies) -> tuple[Verdict, Judgements, Judge]:
    judge, counts = Judge(*replies), Judgements()
    made = build_grader(teacher_pb2.GradeSpec(grader=grader, parameters_json=parameters), Means(judge, b"secret", watch=counts))
    assert not isinstance(made, GroupGrader)
    return await made.grade(ITEM), counts, judge


@given(st.lists(st.integers(0, 3), max_size=9))
def test_agreement_is_the_share_of_equal_pairs(judgements: list[int]):
    pairs = list(combinations(judgements, 2))
    expected = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
    assert share_agreeing(judgements) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(0, 10), min_size=3, max_size=3))
async def test_the_median_score_counts(scores: list[int]):
    verdict, counts, judge = await judged("verbal", '{"samples": 3}', *map(says, scores))
    assert (verdict.reward, verdict.calls) == (median(scores), 3)
    assert verdict.agreement == pytest.approx({1: 1.0, 2: 1 / 3, 3: 0.0}[len(set(scores))])
    assert counts.counts == {("verbal", "samples", "agreed" if len(set(scores)) == 1 else "disagreed"): 1}
    assert len({str(asked) for asked in judge.asked}) == 3, "each is a question of its own, and none is answered from memory"


async def test_steps_have_medians_of_their_own_and_the_whole_is_what_has_to_agree():
    replies = [answers(score=7, steps=steps) for steps in ([1, 9], [2, 0], [9, 4])]
    verdict, _, _ = await judged("verbal", '{"samples": 3, "steps": "words"}', *replies)
    assert (verdict.reward, verdict.step_rewards, verdict.agreement) == (7.0, (2.0, 4.0), 1.0)


async def test_an_answer_that_cannot_be_read_is_left_out_and_one_answer_has_nothing_to_agree_with():
    verdict, _, _ = await judged("verbal", '{"samples": 3}', says(8), "?", "?", says(2))
    assert (verdict.reward, verdict.agreement, verdict.calls) == (2.0, 0.0, 4)
    alone, none, _ = await judged("verbal", '{"samples": 3}', says(8), *["?"] * 4)
    assert (alone.reward, alone.agreement, dict(none.counts)) == (8.0, None, {})
    missing, _, _ = await judged("verbal", '{"samples": 3}', *["?"] * 6)
    assert (missing.validity, missing.reward, missing.agreement) == (Validity.MISSING_PROVIDER, None, None)
    once, _, _ = await judged("verbal", "{}", says(8))
    assert (once.reward, once.agreement) == (8.0, None)


async def test_a_critique_is_that_of_the_median_score():
    replies = [answers(score=score, critique=f"said {score}") for score in (9, 1, 4)]
    verdict, counts, _ = await judged("critique", '{"samples": 3}', *replies)
    assert (verdict.reward, verdict.critique, verdict.agreement) == (4.0, "said 4", 0.0)
    assert counts.counts == {("critique", "samples", "disagreed"): 1}


async def test_most_answers_say_whether_a_criterion_is_met():
    replies = [answers(met=met) for met in ([True, False], [True, True], [False, False])]
    verdict, counts, _ = await judged("rubric", CRITERIA, *replies)
    assert ([one.score for one in verdict.criteria], verdict.reward, verdict.agreement) == ([1.0, 0.0], 0.75, 0.0)
    assert counts.counts == {("rubric", "samples", "disagreed"): 1}


@pytest.mark.parametrize("grader", ["verbal", "critique", "rubric"])
@pytest.mark.parametrize("samples", [0, 2, 11])
def test_samples_have_a_median(grader: str, samples: int):
    with pytest.raises(InvalidArgument, match=r"spec\.parameters_json\.samples"):
        build_grader(teacher_pb2.GradeSpec(grader=grader, parameters_json=f'{{"samples": {samples}}}'), Means(Judge()))
