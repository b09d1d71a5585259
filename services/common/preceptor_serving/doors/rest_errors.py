"""Errors over REST: the same fields as the gRPC `ErrorDetail`, as JSON, under the matching status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from preceptor.error_details import detail_of
from preceptor.errors import Exhausted, InvalidArgument, NotFound, PreceptorError, TooLarge, Unauthenticated

DEFAULT_RETRY_S = 1.0
_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "expected")


class BodyTooLarge(HTTPException):
    """Raised while a body is being read; an HTTPException because FastAPI lets only these through its body parser."""

    def __init__(self, error: TooLarge) -> None:
        super().__init__(error.spec.http_status)
        self.error = error


def error_body(error: PreceptorError) -> dict[str, object]:
    """What stands in the JSON of a failed call."""
    detail = detail_of(error)
    return {
        "code": error.code.value,
        "message": detail.message,
        "field": detail.field,
        "value": detail.value,
        "limit": detail.limit,
        "hint": detail.hint,
        "retry_after_ms": detail.retry_after_ms or None,
        "queue_position": error.queue_position,
    }


def error_response(error: PreceptorError, headers: Mapping[str, str] | None = None, status: int | None = None) -> JSONResponse:
    """The reply to a failed call."""
    extra = dict(headers or {})
    if error.retryable or error.retry_after_s is not None:
        extra["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or DEFAULT_RETRY_S)))
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooLarge):
        extra["Connection"] = "close"  # what is left of the body is not read
    return JSONResponse(error_body(error), status_code=status or error.spec.http_status, headers=extra)


def from_validation(failure: RequestValidationError) -> InvalidArgument:
    """The first thing that pydantic found wrong, named by its path; how many more there are stands in the hint."""
    first, *more = failure.errors()
    field = _path(first["loc"])
    hint = f"{len(more)} more fields are wrong" if more else ""
    return InvalidArgument(
        f"{field}: {first['msg']}", field=field, value=_told(first.get("input")), limit=_limit(first), hint=hint
    )


def from_http(failure: StarletteHTTPException) -> PreceptorError:
    """The error behind an HTTP exception, whether the framework raised it or one of ours travelled in it."""
    if isinstance(failure, BodyTooLarge):
        return failure.error
    match failure.status_code:
        case 404:
            return NotFound("no such route", field="path", hint="GET /openapi.json lists the routes")
        case 405:
            return InvalidArgument("this route does not take this method", field="method")
        case 429:
            return Exhausted(str(failure.detail))
        case _:
            return InvalidArgument(str(failure.detail), field="request")


def _path(location: tuple[int | str, ...]) -> str:
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "body"


def _told(value: Any) -> object:
    """Scalars are shown; of anything larger only the kind, as it may be the whole body."""
    return value if isinstance(value, str | int | float | bool) or value is None else type(value).__name__


def _limit(found: Mapping[str, Any]) -> str:
    bounds = found.get("ctx", {})
    return ", ".join(f"{name} {bounds[name]}" for name in _BOUNDS if name in bounds) or str(found["type"])
