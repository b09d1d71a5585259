"""The generators of the fuzz: repeatable, different from case to case, and judged by what the answers are."""

from __future__ import annotations

import random

import pytest

from preceptor_proto.v1 import common_pb2, teacher_pb2
from tests.fuzz.codec_cases import CodecFuzz
from tests.fuzz.messages import mangled, mutated, random_message
from tests.fuzz.seeds import seeds
from tests.fuzz.verdicts import Answer, inner_errors


@pytest.mark.parametrize("name", ["Teacher.Score", "Student.Step", "Rollout.Generate"])
def test_a_case_is_the_same_each_time_and_unlike_its_neighbours(name: str) -> None:
    def made(number: int) -> bytes:
        rng, good = random.Random(number), seeds()[name][0]
        parts = (mutated(good, rng), random_message(type(good), rng))
        return b"".join(one.SerializeToString(deterministic=True) for one in parts) + mangled(good.SerializeToString(), rng)

    assert made(1) == made(1)
    assert len({made(number) for number in range(50)}) == 50


@pytest.mark.parametrize(
    ("answer", "fine"),
    [
        (Answer("OK"), True),
        (Answer("INVALID_ARGUMENT", "items"), True),
        (Answer("INVALID_ARGUMENT"), False),
        (Answer("INTERNAL", "items"), False),
        (Answer("ENGINE_FAILED", "items"), False),
        (Answer("HANG"), False),
        (Answer("UNAVAILABLE"), False),
        (Answer("UNAVAILABLE", "min_weight_step"), True),
        (Answer("RESOURCE_EXHAUSTED"), True),
    ],
)
def test_what_an_answer_may_be(answer: Answer, *, fine: bool) -> None:
    assert (not answer.complaint) is fine


def test_errors_of_single_items_are_found() -> None:
    detail = common_pb2.ErrorDetail(code=common_pb2.INTERNAL, message="ours")
    reply = teacher_pb2.ScoreReply(results=[teacher_pb2.ScoreResult(), teacher_pb2.ScoreResult(error=detail)])
    assert [answer.code for answer in inner_errors(reply)] == ["INTERNAL"]


async def test_the_codec_reads_or_refuses_by_name_whatever_it_is_given() -> None:
    fuzz = CodecFuzz(seed=7)
    for number in range(400):
        assert await fuzz.case(number) == (fuzz.names[number % len(fuzz.names)], [])
