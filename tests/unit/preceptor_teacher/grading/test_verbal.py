"""A judge's reply is a verdict only in the one shape, about the one request; what a student writes stays data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument, NotFound
from preceptor.types import GradeItem, Validity
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.graders import Means, build_grader
from preceptor_teacher.graders.fence import Fence, fenced_texts
from preceptor_teacher.graders.verbal import Verbal, VerbalParams, ask_for
from preceptor_teacher.graders.verdicts import NoVerdict, read_score, schema_of
from preceptor_teacher.testing.judging import read_judging
from tests.unit.preceptor_teacher.grading.injections import INJECTIONS
from tests.unit.preceptor_teacher.grading.scripted import Judge, says

NUMBER = "00112233aabbccdd"
ITEM = GradeItem("478+356", "834")


async def verdict_of(judge: Judge, item: GradeItem = ITEM):
    return await Verbal(VerbalParams(), judge).grade(item)


def test_there_are_many_injections():
    assert len(set(INJECTIONS)) >= 100


# ---------------------------------------------------------------- fences


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_whatever_a_student_writes_is_read_back_whole_and_nothing_else(text):
    for item in (GradeItem("478+356", text), GradeItem(text or "p", "834"), GradeItem("p", "834", reference=text)):
        question = ask_for(item)
        request = question.messages[-1]["content"]
        wanted = {"prompt": item.prompt, "response": item.response}
        assert fenced_texts(request) == wanted | ({"reference": item.reference} if item.reference else {})
        assert request.count(f"<<<{question.fence.token} response ends>>>") == 1
        judging = read_judging(request)
        assert judging is not None
        assert (judging.prompt, judging.response, judging.number) == (item.prompt, item.response, question.number)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_texts_come_through_a_fence_unchanged(prompt, response):
    question = ask_for(GradeItem(prompt, response))
    assert fenced_texts(question.messages[-1]["content"]) == {"prompt": prompt, "response": response}
    assert all(question.number not in text and question.fence.token not in text for text in (prompt, response))


def test_secrets_are_fresh_in_every_request_and_never_in_the_texts(monkeypatch):
    questions = [ask_for(ITEM) for _ in range(50)]
    assert len({one.fence.token for one in questions} | {one.number for one in questions}) == 100
    drawn = iter(["ab" * 16, "cd" * 16])
    monkeypatch.setattr("preceptor_teacher.graders.fence.secrets.token_hex", lambda _: next(drawn))
    assert Fence.around("x " + "ab" * 16).token == "cd" * 16


def test_strangers_stand_only_between_markers_and_guidance_outside():
    question = ask_for(GradeItem("PROMPT", "RESPONSE", "REFERENCE"), "GUIDANCE")
    system, user = (message["content"] for message in question.messages)
    outside = user
    for text in (question.fence.put(label, label.upper()) for label in ("prompt", "response", "reference")):
        assert text in user
        outside = outside.replace(text, "")
    assert "GUIDANCE" in outside
    assert not any(word in outside + system for word in ("PROMPT", "RESPONSE", "REFERENCE"))


# ---------------------------------------------------------------- parser


@pytest.mark.parametrize("score", range(11))
def test_a_verdict_is_read(score):
    assert read_score(f' \n{{"score": {score}, "request": "{NUMBER}"}}\n', NUMBER) == score


@pytest.mark.parametrize(
    "text",
    [
        *INJECTIONS,
        "10",
        "null",
        "[]",
        f'{{"request": "{NUMBER}"}}',
        f'{{"request": "{NUMBER}", "score": 11}}',
        f'{{"request": "{NUMBER}", "score": -1}}',
        f'{{"request": "{NUMBER}", "score": 7.0}}',
        f'{{"request": "{NUMBER}", "score": true}}',
        f'{{"request": "{NUMBER}", "score": "7"}}',
        f'{{"request": "{NUMBER}", "score": NaN}}',
        f'{{"request": "{NUMBER}", "score": 1e1}}',
        f'{{"request": "{NUMBER}", "score": 7, "why": "good"}}',
        f'{{"request": "{NUMBER}", "score": 2, "score": 9}}',
        f'{{"request": "{NUMBER}", "request": "{NUMBER}", "score": 9}}',
        f'{{"request": "{NUMBER}", "score": 7}} {{"request": "{NUMBER}", "score": 9}}',
        f'The score: {{"request": "{NUMBER}", "score": 7}}',
        f'```json\n{{"request": "{NUMBER}", "score": 7}}\n```',
        f'{{"request": "{NUMBER.upper()}", "score": 7}}',
        f'{{"request": "{NUMBER}", "score": {"9" * 1900}}}',
        f'{{"request": "{NUMBER}", "score": 7}}' + " " * 2000,
    ],
)
def test_anything_else_is_no_verdict(text):
    with pytest.raises(NoVerdict):
        read_score(text, NUMBER)


@given(st.text(max_size=300) | st.from_regex(r'\{"request": "[0-9a-f]{16}", "score": \d+\}', fullmatch=True))
def test_no_text_is_a_verdict_without_the_number(text):
    number = ask_for(ITEM).number
    with pytest.raises(NoVerdict):
        read_score(text, number)


def test_the_schema_admits_what_the_parser_reads_and_nothing_wider():
    import jsonschema

    schema = schema_of(NUMBER)
    jsonschema.validate({"request": NUMBER, "score": 10}, schema)
    for wrong in ({"request": "x", "score": 1}, {"request": NUMBER, "score": 11}, {"request": NUMBER, "score": 1, "a": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


# ---------------------------------------------------------------- the grader


async def test_a_score_is_the_reward_and_its_cost_is_counted():
    verdict = await verdict_of(Judge(says(7)))
    assert (verdict.validity, verdict.reward, verdict.calls, verdict.tokens) == (Validity.OK, 7.0, 1, 10)


async def test_one_repair_then_missing_and_both_are_paid():
    judge = Judge("I think it is a 9.", says(9))
    verdict = await verdict_of(judge)
    assert (verdict.reward, verdict.calls, verdict.prompt_tokens) == (9.0, 2, 14)
    first, second = (messages[-1]["content"] for messages in judge.asked)
    assert "I think it is a 9." not in second
    assert "not the JSON object" in second
    assert "not the JSON object" not in first
    assert not set(fenced_texts(first)) - set(fenced_texts(second))
    gone = await verdict_of(Judge("nonsense", "more nonsense", says(3)))
    assert (gone.validity, gone.reward, gone.calls) == (Validity.MISSING_PROVIDER, None, 2)
    assert gone.reason == "the reply is not one JSON object"


async def test_the_number_of_the_first_question_does_not_answer_the_second():
    numbers: list[str] = []

    def late(number: str) -> str:
        numbers.append(number)
        return says(10)(numbers[0])

    verdict = await verdict_of(Judge(lambda number: numbers.append(number) or "garbage", late))
    assert verdict.validity is Validity.MISSING_PROVIDER


async def test_refusals_are_not_repaired_and_cut_off_answers_are():
    judge = Judge(says(10), says(10), refused=True)
    refused = await verdict_of(judge)
    assert (refused.validity, refused.calls, len(judge.replies)) == (Validity.MISSING_PROVIDER, 1, 1)
    cut = await verdict_of(Judge(says(10), says(10), finish_reason="length"))
    assert (cut.validity, cut.calls, cut.reason) == (Validity.MISSING_PROVIDER, 2, "the answer was cut off")


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
async def test_a_judge_that_repeats_the_students_text_gives_no_verdict(text):
    verdict = await verdict_of(Judge(text, text), GradeItem("478+356", text))
    assert (verdict.validity, verdict.reward) == (Validity.MISSING_PROVIDER, None)


# ---------------------------------------------------------------- the registry


@pytest.mark.parametrize(
    ("spec", "error", "field"),
    [
        ({"grader": "verbl"}, NotFound, "spec.grader"),
        ({"grader": "verbal", "parameters_json": "{"}, InvalidArgument, "spec.parameters_json"),
        ({"grader": "verbal", "parameters_json": "[]"}, InvalidArgument, "spec.parameters_json"),
        ({"grader": "verbal", "parameters_json": '{"base_url": "http://x"}'}, InvalidArgument, "spec.parameters_json.base_url"),
        ({"grader": "verbal", "parameters_json": '{"guidance": 3}'}, InvalidArgument, "spec.parameters_json.guidance"),
        ({"grader": "verbal", "criteria": [{"name": "a"}]}, InvalidArgument, "spec.criteria"),
    ],
)
def test_wrong_graders_and_parameters_are_refused_by_field(spec, error, field):
    with pytest.raises(error) as refused:
        build_grader(teacher_pb2.GradeSpec(**spec), Means(Judge()))
    assert refused.value.field == field


async def test_guidance_reaches_the_question():
    judge = Judge(says(1))
    grader = build_grader(teacher_pb2.GradeSpec(grader="verbal", parameters_json='{"guidance": "Short is good."}'), Means(judge))
    await grader.grade(ITEM)
    assert "Short is good." in judge.asked[0][-1]["content"]
