"""Errors over REST: the same fields as the gRPC `ErrorDetail`, as JSON, under the matching status."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Tag
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from preceptor.error_details import error_body
from preceptor.errors import Exhausted, InvalidArgument, NotFound, PreceptorError, TooLarge, Unauthenticated
from preceptor.redaction import redact_text
from preceptor.suggest import did_you_mean

DEFAULT_RETRY_S = 1.0
MAX_SHOWN_BITS = 128
UNKNOWN = "extra_forbidden"  # pydantic's word for a field that a body does not have
TOO_LONG = ("too_long", "string_too_long")
KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "text"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "an object"),
    "finite_number": "a finite number",
    "none_required": "null",
    UNKNOWN: "a field that this body has",
}
"""What may stand at a place, by pydantic's word for what was wrong there."""

OTHERWISE = "what the message says"
_BOUNDS = {
    **{"ge": ">= ", "gt": "> ", "le": "<= ", "lt": "< ", "min_length": ">= ", "max_length": "<= "},
    **{"multiple_of": "a multiple of ", "pattern": "text like ", "expected": ""},
}
_LENGTHS = ("min_length", "max_length")


ErrorShape = Callable[[PreceptorError], dict[str, object]]
"""The JSON of a failed call. Another door's own shape has the fields of `error_body` beside its own."""


class Refused(HTTPException):
    """Raised while a body is being read; an HTTPException because FastAPI lets only these through its body parser."""

    def __init__(self, error: PreceptorError) -> None:
        super().__init__(error.spec.http_status)
        self.error = error


def error_response(
    error: PreceptorError,
    headers: Mapping[str, str] | None = None,
    status: int | None = None,
    shape: ErrorShape = error_body,
) -> JSONResponse:
    """The reply to a failed call."""
    extra = dict(headers or {})
    if error.retryable or error.retry_after_s is not None:
        extra["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or DEFAULT_RETRY_S)))
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooLarge):
        extra["Connection"] = "close"  # what is left of the body is not read
    return JSONResponse(shape(error), status_code=status or error.spec.http_status, headers=extra)


def from_validation(failure: RequestValidationError, body: object = None) -> InvalidArgument:
    """The first thing that pydantic found wrong, named by its path; how many more there are stands in the hint.

    `body` is the type of the whole body: it says which names an unknown field was meant to be.
    """
    first, *more = sorted(failure.errors(), key=lambda found: found["type"] != UNKNOWN)  # a misspelt name is also a missing one
    field = _path(first["loc"], body)
    others = f"{len(more)} more fields are wrong" if more else ""
    meant = did_you_mean(str(first["loc"][-1]), fields_at(body, first["loc"][1:-1])) if first["type"] == UNKNOWN else ""
    hint = "; ".join(filter(None, (meant, others)))
    kind = TooLarge if first["type"] in TOO_LONG else InvalidArgument
    return kind(f"{field}: {first['msg']}", field=field, value=_value(first), limit=_limit(first), hint=hint)


def from_http(failure: StarletteHTTPException, request: Request) -> PreceptorError:
    """The error behind an HTTP exception, whether the framework raised it or one of ours travelled in it."""
    if isinstance(failure, Refused):
        return failure.error
    match failure.status_code:
        case 404:
            listed = "a route of GET /openapi.json"
            return NotFound(
                "no such route", field="path", value=redact_text(request.url.path), limit=listed, hint="mind the slash at the end"
            )
        case 405:
            allowed = (failure.headers or {}).get("Allow", "another method")
            return InvalidArgument("this route does not take this method", field="method", value=request.method, limit=allowed)
        case 429:
            return Exhausted(str(failure.detail))
        case _:
            return InvalidArgument(str(failure.detail), field="request")


def _path(location: tuple[int | str, ...], body: object) -> str:
    """The place as the caller wrote it: without the names that pydantic gives to the forms of a value."""
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    text = ""
    for at, part in enumerate(parts):
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in _forms(_type_at(body, parts[:at])):
            text += f".{part}"
    return text.lstrip(".") or "body"


def fields_at(kind: object, location: Sequence[int | str]) -> list[str]:
    """The names of the fields that the type of a body has at a place in it."""
    return [name for model in _models(_type_at(kind, location)) for name in model.model_fields]


def _type_at(kind: object, location: Sequence[int | str]) -> object:
    """The annotation at a place in a body."""
    for part in location:
        inner = [model for model in _models(kind) if part in model.model_fields] if isinstance(part, str) else []
        kind = inner[0].model_fields[str(part)].annotation if inner else kind
    return kind


def _forms(kind: object) -> set[str]:
    """The names of the forms that a value may have, which a body does not contain."""
    inner = {form for one in get_args(kind) for form in _forms(one)}
    return {kind.tag} | inner if isinstance(kind, Tag) else inner


def _models(kind: object) -> list[type[BaseModel]]:
    """The pydantic models inside an annotation: `list[Item] | None` has `Item`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for one in get_args(kind) for model in _models(one)]


def _value(found: Mapping[str, Any]) -> object:
    """What was given, in the words of the limits of the protocol."""
    if found["type"] == "missing":
        return "nothing"
    given, bounds = found.get("input"), found.get("ctx", {})
    if any(name in bounds for name in _LENGTHS) and isinstance(given, str | list):
        return f"{len(given)} {_unit(given)}"
    return _told(given)


def _told(value: Any) -> object:
    """Scalars are shown; of anything larger only the kind, as it may be the whole body."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_SHOWN_BITS else f"a whole number of {value.bit_length()} bits"
    return value if isinstance(value, str | float) or value is None else type(value).__name__


def _limit(found: Mapping[str, Any]) -> str:
    if found["type"] == "missing":
        return "required"
    bounds = found.get("ctx", {})
    told = [f"{words}{_bound(bounds[name])}" for name, words in _BOUNDS.items() if name in bounds]
    unit = f" {_unit(found.get('input'))}" if any(name in bounds for name in _LENGTHS) else ""
    return f"{', '.join(told)}{unit}" if told else KINDS.get(found["type"], OTHERWISE)


def _bound(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _unit(value: object) -> str:
    return "characters" if isinstance(value, str) else "items"
