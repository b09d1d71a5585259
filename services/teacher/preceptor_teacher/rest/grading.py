"""The bodies of `/v1/grade`, and their way to messages and back."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from preceptor import limits, wire
from preceptor.error_details import error_body, error_of
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.doors.rest_pieces import listed
from preceptor_teacher.rest.bodies import Body, ErrorAnswer


class GradeItemBody(Body):
    """One response to judge."""

    prompt: str
    response: str
    reference: str = ""
    """What a right response looks like, where that is known."""

    group: str = ""
    """Items of one group answer the same prompt."""

    unsure_at: Annotated[list[int], Field(max_length=1024)] = Field(default_factory=list[int])
    """UTF-8 bytes of the response before places where its writer was unsure, the worst first."""


class GradeBody(Body):
    """A batch; each item succeeds or fails alone."""

    teacher: str
    """Name or alias of a teacher that judges."""

    items: Annotated[list[GradeItemBody], Field(min_length=1, max_length=1024)]

    grader: str = "verbal"
    """How it judges."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    """The grader's own parameters."""

    job: str = ""
    """The training run that this is accounted to."""


class CriterionAnswer(Body):
    """`score` is null unless `validity` is ok."""

    name: str
    validity: str
    score: float | None
    reason: str
    text: str
    """The criterion itself, where a rubric has it."""

    weight: float
    """How much it counts beside the others; 0: nothing is weighed."""


class VerdictAnswer(Body):
    """`reward` is null unless `validity` is ok."""

    validity: str
    reward: float | None
    reason: str
    critique: str
    criteria: list[CriterionAnswer]
    step_rewards: list[float | None]
    """One for each step that the grader tells apart; null where it gave none."""

    step_ends: list[int]
    """Of each step: how many UTF-8 bytes of the response there are up to its end."""

    agreement: float | None
    """Of repeated judgements: the share of their pairs that say the same; null where there was one."""

    cost_usd: float | None
    """Null where the operator gave no prices."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class GradeResultAnswer(Body):
    """A verdict, or an error."""

    verdict: VerdictAnswer | None = None
    error: ErrorAnswer | None = None


class GradeAnswer(Body):
    results: list[GradeResultAnswer]


def to_grade_request(body: GradeBody) -> teacher_pb2.GradeRequest:
    """The same request as a message, held to the limits of the protocol."""
    request = teacher_pb2.GradeRequest(
        teacher=wire.choice_to_proto(body.teacher),
        spec=teacher_pb2.GradeSpec(grader=body.grader, parameters_json=json.dumps(body.parameters, sort_keys=True)),
        job=body.job,
    )
    for item in body.items:
        request.items.add(**item.model_dump())
    limits.check(request)
    return request


def to_grade_answer(reply: teacher_pb2.GradeReply) -> dict[str, Any]:
    """A `GradeAnswer` whose results are made one by one, when they are sent."""
    return {"results": listed(_result(result) for result in reply.results)}


def _result(result: teacher_pb2.GradeResult) -> dict[str, Any]:
    if result.WhichOneof("outcome") == "error":
        return {"error": error_body(error_of(result.error))}
    return {"verdict": wire.verdict_body(wire.verdict_from_proto(result.verdict))}
