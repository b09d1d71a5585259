"""Messages of the protocol as REST bodies, written anew for these tests, and the limits that no such body can break."""

from __future__ import annotations

import struct
from typing import Any

from google.protobuf.message import Message

from preceptor_proto.v1 import common_pb2, teacher_pb2

ROUTES = {"Teacher.Score": "/v1/score", "Teacher.Grade": "/v1/grade"}

BEYOND_REST = {
    ("ModelChoice", "version"): "a body names a teacher, and means its latest version",
    ("ModelRef",): "the same",
    ("AdapterRef",): "the same",
    ("TokenIds", "u32le", "unit_bytes"): "ids are numbers, so that there is no byte too few",
    ("CandidateIds", "offsets_u32le"): "a list for each row has no offsets",
    ("CandidateIds", "ids_u32le", "unit_bytes"): "ids are numbers, so that there is no byte too few",
    ("ScoreItem", "want"): "an item without a want takes that of the request, which wants nothing by itself",
    ("GradeRequest", "spec"): "a body without a grader means the verbal one",
    ("GradeSpec", "criteria"): "criteria of a body stand among the parameters, where the grader counts them",
}
"""Each limit by the first parts of its name, and why it needs no case here."""


def beyond_rest(name: tuple[str, str, str]) -> str | None:
    """Why a limit cannot be met by a body; None where it can."""
    return next((why for start, why in BEYOND_REST.items() if name[: len(start)] == start), None)


def body_of(request: Message) -> dict[str, Any]:
    """The body that says the same; what is unset is left out."""
    if isinstance(request, teacher_pb2.ScoreRequest):
        return _score_body(request)
    assert isinstance(request, teacher_pb2.GradeRequest)
    return _grade_body(request)


def _score_body(request: teacher_pb2.ScoreRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"items": [_item(item) for item in request.items], "job": request.job, "band": request.band}
    for name in ("tokenizer_sha256", "template_sha256"):
        body[name] = getattr(request, name).hex()
    return body | _teacher(request)


def _teacher(request: Any) -> dict[str, str]:
    return {"teacher": request.teacher.teacher} if request.HasField("teacher") else {}


def _item(item: teacher_pb2.ScoreItem) -> dict[str, Any]:
    body: dict[str, Any] = {"want": _want(item.want)}
    if item.HasField("sequence"):
        body["segments"] = [_segment(segment) for segment in item.sequence.segments]
    return body


def _segment(segment: common_pb2.Segment) -> dict[str, Any]:
    kind = segment.WhichOneof("kind")
    return {} if kind is None else {"kind": kind, "ids": _ids(getattr(segment, kind).u32le)}


def _want(want: common_pb2.Want) -> dict[str, Any]:
    body: dict[str, Any] = {"sampled": want.sampled, "topk": want.topk, "samples": want.samples}
    if want.HasField("temperature"):
        body["temperature"] = want.temperature
    if want.HasField("candidates"):
        body["candidates"] = [_ids(want.candidates.ids_u32le)]
    return body


def _ids(plane: bytes) -> list[int]:
    return [one for (one,) in struct.iter_unpack("<I", plane)]


def _grade_body(request: teacher_pb2.GradeRequest) -> dict[str, Any]:
    spec = request.spec
    names = ("prompt", "response", "reference", "group")
    items = [{name: getattr(one, name) for name in names} | {"unsure_at": list(one.unsure_at)} for one in request.items]
    body: dict[str, Any] = {"items": items, "grader": spec.grader, "job": request.job}
    if len(spec.parameters_json) > 2:  # of which {"x":"..."} leaves eight for the quotes and the name
        body["parameters"] = {"x": "a" * (len(spec.parameters_json) - len('{"x": ""}'))}
    return body | _teacher(request)
