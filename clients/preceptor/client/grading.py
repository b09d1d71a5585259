"""Grading as messages: a request out of typed items, typed verdicts out of a reply."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from preceptor import wire
from preceptor.error_details import error_of
from preceptor.errors import Corrupt, PreceptorError
from preceptor.queue import GradeQueue
from preceptor.types import Criterion, GradeItem, Verdict
from preceptor_proto.v1 import teacher_pb2

Graded = Verdict | PreceptorError
"""What became of one item: an error here is that item's alone."""


@dataclass(frozen=True, slots=True)
class GradeOptions:
    """By which grader the items are judged, and what it is told."""

    grader: str = "verbal"
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    job: str = ""
    criteria: Sequence[Criterion] = ()  # of grader rubric: the rubric itself, in place of one that the judge makes


VERBAL = GradeOptions()


class Grades(Protocol):
    """Whoever answers with verdicts: a client of the service, or of the queue."""

    async def grade(
        self, teacher: str, items: Iterable[GradeItem], options: GradeOptions = VERBAL, *, deadline_s: float | None = None
    ) -> list[Graded]:
        """One verdict for each item, in order. What is wrong with the whole request is raised."""
        ...


@dataclass(frozen=True, slots=True)
class QueueGrades:
    """`Grades` of the teachers that work at a queue."""

    queue: GradeQueue

    async def grade(
        self, teacher: str, items: Iterable[GradeItem], options: GradeOptions = VERBAL, *, deadline_s: float | None = None
    ) -> list[Graded]:
        """See `Grades.grade`."""
        request = grade_request(teacher, list(items), options)
        return read_verdicts(await self.queue.grade(request, deadline_s=deadline_s), len(request.items))


def grade_request(teacher: str, items: Sequence[GradeItem], options: GradeOptions) -> teacher_pb2.GradeRequest:
    """The message of one request."""
    return teacher_pb2.GradeRequest(
        teacher=wire.choice_to_proto(teacher),
        spec=teacher_pb2.GradeSpec(
            grader=options.grader,
            parameters_json=json.dumps(dict(options.parameters), sort_keys=True),
            criteria=[teacher_pb2.Criterion(name=one.name, text=one.text, weight=one.weight) for one in options.criteria],
        ),
        items=[wire.grade_item_to_proto(item) for item in items],
        job=options.job,
    )


def read_verdicts(reply: teacher_pb2.GradeReply, asked: int) -> list[Graded]:
    """One outcome for each item, in order."""
    if len(reply.results) != asked:
        raise Corrupt("another number of results than items", field="results", value=len(reply.results), limit=asked)
    return [_outcome(result, f"results[{i}]") for i, result in enumerate(reply.results)]


def _outcome(result: teacher_pb2.GradeResult, where: str) -> Graded:
    if result.WhichOneof("outcome") == "error":
        return error_of(result.error)
    return wire.verdict_from_proto(result.verdict, f"{where}.verdict")
