"""The limits in the .proto files are what a request is held to, at limit - 1, at the limit and beyond."""

from __future__ import annotations

import math

import pytest

from preceptor.errors import InvalidArgument, PreceptorError, TooLarge
from preceptor.limits import check, check_name
from preceptor_proto.v1 import common_pb2, rollout_pb2, student_pb2, teacher_pb2


def good_request() -> teacher_pb2.ScoreRequest:
    request = teacher_pb2.ScoreRequest(teacher=common_pb2.ModelChoice(teacher="big", latest=True))
    item = request.items.add()
    item.sequence.segments.add().context.u32le = b"\1\0\0\0"
    item.sequence.segments.add().response.u32le = b"\2\0\0\0"
    item.want.sampled = True
    return request


def test_a_good_request_passes():
    check(good_request())


def break_candidates(request: teacher_pb2.ScoreRequest) -> None:
    request.items[0].want.candidates.offsets_u32le = b"\0\0"


BROKEN = {
    "teacher": (lambda r: r.ClearField("teacher"), "required"),
    "teacher.teacher": (lambda r: setattr(r.teacher, "teacher", "a/b"), "[A-Za-z0-9][A-Za-z0-9._-]*"),
    "teacher.version": (lambda r: r.teacher.ClearField("latest"), "latest | exact"),
    "items": (lambda r: r.ClearField("items"), ">= 1 items"),
    "items[0].sequence": (lambda r: r.items[0].ClearField("sequence"), "required"),
    "items[0].sequence.segments": (lambda r: r.items[0].sequence.ClearField("segments"), ">= 1 items"),
    "items[0].sequence.segments[1].kind": (lambda r: r.items[0].sequence.segments[1].Clear(), "context | response"),
    "items[0].sequence.segments[1].response.u32le": (
        lambda r: setattr(r.items[0].sequence.segments[1].response, "u32le", b"123"),
        "a multiple of 4 bytes",
    ),
    "items[0].want": (lambda r: r.items[0].ClearField("want"), "required"),
    "items[0].want.candidates.offsets_u32le": (break_candidates, ">= 4 bytes"),
    "tokenizer_sha256": (lambda r: setattr(r, "tokenizer_sha256", bytes(31)), ">= 32 bytes"),
    "band": (lambda r: setattr(r, "band", 8), "<= 7"),
}


@pytest.mark.parametrize("field", BROKEN)
def test_what_is_broken_is_named_with_its_limit(field):
    request = good_request()
    spoil, limit = BROKEN[field]
    spoil(request)
    with pytest.raises(InvalidArgument) as caught:
        check(request)
    assert (caught.value.field, caught.value.limit) == (field, limit)


def outcome(message) -> type[PreceptorError] | None:
    try:
        check(message)
    except PreceptorError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, InvalidArgument), (-1.0, InvalidArgument), (1e-9, None), (1000.0, None), (1000.1, InvalidArgument)]
    + [(bad, InvalidArgument) for bad in (math.nan, math.inf, -math.inf)],
)
def test_temperature_is_finite_above_zero_and_at_most_1000(value, expected):
    assert outcome(common_pb2.Want(temperature=value)) is expected


def test_boundaries_of_counts_and_sizes():
    assert outcome(common_pb2.Want(topk=262_144)) is None
    assert outcome(common_pb2.Want(topk=262_145)) is InvalidArgument
    segments = [common_pb2.Segment(context=common_pb2.TokenIds())] * 4096
    assert outcome(common_pb2.Sequence(segments=segments)) is None
    assert outcome(common_pb2.Sequence(segments=[*segments, segments[0]])) is TooLarge
    for count, expected in ((31, InvalidArgument), (32, None), (33, TooLarge)):
        assert outcome(common_pb2.ModelRef(name="m", manifest_sha256=b"x" * count)) is expected
    assert outcome(common_pb2.ModelRef(name="m")) is None, "an absent digest satisfies its length"


def test_a_number_that_must_be_positive_is_checked_although_zero_is_its_default():
    assert outcome(rollout_pb2.GeneratePrompt(context=common_pb2.TokenIds(u32le=b"abcd"))) is InvalidArgument
    assert outcome(student_pb2.CheckpointRequest(run="r")) is InvalidArgument
    assert outcome(student_pb2.CheckpointRequest(run="r", epoch=1)) is None


@pytest.mark.parametrize("bad", ["", ".hidden", "-x", "a b", "a/b", "a:b", "{x}", "a\n", "é"])
def test_names_cannot_break_out_of_keys_and_paths(bad):
    with pytest.raises(InvalidArgument):
        check_name(bad, "job")


def test_an_optional_number_may_be_absent_but_not_out_of_range():
    assert outcome(rollout_pb2.Sampling(max_new_tokens=1)) is None
    assert outcome(rollout_pb2.Sampling(max_new_tokens=1, top_p=0.0)) is InvalidArgument
    assert outcome(rollout_pb2.Sampling(max_new_tokens=1, temperature=0.0)) is None
