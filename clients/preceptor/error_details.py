"""A `PreceptorError` as the protocol's `ErrorDetail`, and back: in a status, in a reply beside good items, between processes."""

from __future__ import annotations

from preceptor.errors import PreceptorError, error_from_code
from preceptor_proto.v1 import common_pb2

MAX_TEXT_BYTES = 512  # gRPC peers cap metadata at 8 KiB, where text outside ASCII takes three times its bytes


def detail_of(error: PreceptorError) -> common_pb2.ErrorDetail:
    """The message that stands for an error, in a status or beside the good items of a batch."""
    detail = common_pb2.ErrorDetail(
        code=error.code.value,
        field=cut(error.field),
        value=cut(error.value),
        limit=cut(error.limit),
        hint=cut(error.hint),
        message=cut(error.message),
    )
    if error.retry_after_s is not None:
        detail.retry_after_ms = max(1, round(error.retry_after_s * 1000))
    if error.queue_position is not None:
        detail.queue_position = error.queue_position
    return detail


def error_of(detail: common_pb2.ErrorDetail) -> PreceptorError:
    """The error that a message stands for; a code that this version does not know becomes `Internal` and is named."""
    known = detail.code in common_pb2.ErrorCode.values()
    return error_from_code(
        common_pb2.ErrorCode.Name(detail.code) if known else str(detail.code),
        detail.message,
        field=detail.field,
        value=detail.value,
        limit=detail.limit,
        hint=detail.hint,
        retry_after_s=detail.retry_after_ms / 1000 if detail.retry_after_ms else None,
        queue_position=detail.queue_position if detail.HasField("queue_position") else None,
    )


def error_body(error: PreceptorError) -> dict[str, object]:
    """What stands for an error in JSON, whoever writes it."""
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


def cut(text: str) -> str:
    """The text, shortened where it would not fit beside the rest."""
    raw = text.encode()
    return text if len(raw) <= MAX_TEXT_BYTES else raw[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"
