"""Errors over gRPC: a `PreceptorError` as the rich status of a failed call, and back.

The details travel as one `ErrorDetail` inside google.rpc.Status, so that a client of any language can read them. A failure
that carries none (the network, an old proxy, gRPC itself) becomes the error that its bare status stands for.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]
from grpc_status import rpc_status as untyped_rpc_status

from preceptor.error_details import cut, detail_of, error_of
from preceptor.errors import ErrorCode, PreceptorError, TooLarge, Unavailable, error_from_code
from preceptor_proto.v1 import common_pb2

rpc_status: Any = untyped_rpc_status  # speaks google.rpc.Status, which ships without types
LOCALLY = "Locally cancelled"  # gRPC's own words for a call that its caller gave up
_BARE: dict[grpc.StatusCode, ErrorCode] = {
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE: ErrorCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION: ErrorCode.UNSUPPORTED,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.NOT_FOUND,
    grpc.StatusCode.NOT_FOUND: ErrorCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED: ErrorCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE: ErrorCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED: ErrorCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED: ErrorCode.CANCELLED,
    grpc.StatusCode.ALREADY_EXISTS: ErrorCode.CONFLICT,
    grpc.StatusCode.DATA_LOSS: ErrorCode.CORRUPT,
}
_HINTS = {
    grpc.StatusCode.UNIMPLEMENTED: "the service does not know this call; it may be older than this client",
    grpc.StatusCode.UNAVAILABLE: "check the address, and that the service runs",
}


def to_status(error: PreceptorError) -> Any:
    """What a server ends a call with: `code`, `details` and the `trailing_metadata` that holds the `ErrorDetail`."""
    status: Any = status_pb2.Status(code=code_pb2.Code.Value(error.spec.grpc_status), message=cut(error.message))
    status.details.add().Pack(detail_of(error))
    return rpc_status.to_status(status)


def from_rpc(failure: grpc.RpcError) -> PreceptorError:
    """The error behind a failed call, sync or asyncio; the failure itself is worth keeping as its cause."""
    detail = _detail_in(failure)
    return error_of(detail) if detail is not None else _from_bare_status(failure)


def _detail_in(failure: Any) -> common_pb2.ErrorDetail | None:
    try:
        status = rpc_status.from_call(failure)
    except (ValueError, DecodeError):  # details that contradict the status: somebody on the way rewrote one of them
        return None
    detail = common_pb2.ErrorDetail()
    found = status is not None and any(packed.Unpack(detail) for packed in status.details)
    return detail if found else None


def _from_bare_status(failure: Any) -> PreceptorError:
    status: grpc.StatusCode = failure.code()
    text = f"{failure.details() or 'no details'} (gRPC {status.name})"
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return TooLarge(text, field="message", hint="send fewer items, or raise max_message_bytes on both sides")
    if status is grpc.StatusCode.CANCELLED and LOCALLY not in text:
        return Unavailable(f"the peer dropped the call: {text}", hint="it was shutting down; try again")
    return error_from_code(_BARE.get(status, ErrorCode.INTERNAL), text, hint=_HINTS.get(status, ""))
