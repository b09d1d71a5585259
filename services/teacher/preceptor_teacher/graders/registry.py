"""Which graders there are."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from preceptor.errors import InvalidArgument, NotFound, Unsupported
from preceptor.suggest import did_you_mean
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.graders import (
    best_of_n,
    chunks,
    contrast,
    critique,
    discriminator,
    exact,
    math_verify,
    pairwise,
    rubric,
    verbal,
)
from preceptor_teacher.graders.protocol import Grader, GraderSpec, GroupGrader, Means

_MODULES = (best_of_n, chunks, contrast, critique, discriminator, exact, math_verify, pairwise, rubric, verbal)
GRADERS: dict[str, GraderSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}
"""Grader name -> spec. To add a grader, write a module in this folder with a `SPEC`, and name it above."""


def names_of_graders(engine: str) -> tuple[str, ...]:
    """Those that teachers with this engine serve."""
    return tuple(name for name, spec in GRADERS.items() if spec.engine == engine)


def names_of_stepping_graders() -> tuple[str, ...]:
    """Those that can tell the steps of a response apart; of verbal, its parameters say whether it does."""
    return tuple(name for name, spec in GRADERS.items() if spec.steps)


def build_grader(request: teacher_pb2.GradeSpec, means: Means) -> Grader | GroupGrader:
    """The grader that a request names, with the parameters it gives; unknown names and parameters are refused."""
    spec = GRADERS.get(request.grader)
    if spec is None:
        hint = did_you_mean(request.grader, GRADERS)
        raise NotFound(f"there is no grader {request.grader!r}", field="spec.grader", value=request.grader, hint=hint)
    if spec.engine != means.engine:
        raise Unsupported(
            f"grader {spec.name} belongs to teachers with engine {spec.engine}, and this one has engine {means.engine}",
            field="spec.grader",
            value=spec.name,
            limit=" | ".join(names_of_graders(means.engine)),
            hint=f"give it to a teacher with engine: {spec.engine}",
        )
    return spec.build(_params(spec, request), means)


def _params(spec: GraderSpec, request: teacher_pb2.GradeSpec) -> object:
    where, text = "spec.parameters_json", request.parameters_json
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{where} is no JSON", field=where, value=text, limit="one JSON object") from None
    if request.criteria:
        values = _with_criteria(spec, values, request)
    try:
        return spec.params.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join((where, *(str(part) for part in first["loc"])))
        known = ", ".join(spec.params.model_fields) or "none"
        raise InvalidArgument(
            f"{field}: {first['msg']}", field=field, value=first["input"], limit=f"parameters: {known}"
        ) from None


def _with_criteria(spec: GraderSpec, values: Any, request: teacher_pb2.GradeSpec) -> dict[str, Any]:
    """Criteria of the message stand where those of a JSON body do."""
    given = len(request.criteria)
    if "criteria" not in spec.params.model_fields:
        raise InvalidArgument(f"grader {spec.name} takes no criteria", field="spec.criteria", value=given, limit="none")
    if not isinstance(values, dict) or "criteria" in values:
        raise InvalidArgument(
            "criteria beside parameters that are no object or have criteria too",
            field="spec.criteria",
            value=given,
            limit="one of both",
        )
    criteria = [{"name": one.name, "text": one.text, "weight": one.weight} for one in request.criteria]
    return {**values, "criteria": criteria}  # pyright: ignore[reportUnknownVariableType]
