"""Failed calls become the errors that they stand for, with and without details."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from preceptor.error_details import detail_of, error_of
from preceptor.errors import (
    Cancelled,
    DeadlineExceeded,
    Exhausted,
    Gap,
    Internal,
    InvalidArgument,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from preceptor.rpc_errors import from_rpc, to_status
from preceptor_proto.v1 import common_pb2

S = grpc.StatusCode


def failed(status: grpc.StatusCode, details: str = "", trailing: tuple[tuple[str, bytes], ...] = ()) -> AioRpcError:
    return AioRpcError(status, Metadata(), Metadata(*trailing), details)


def test_details_survive_the_trip() -> None:
    error = Exhausted("full", field="queue", value=9, limit=8, hint="wait", retry_after_s=0.25, queue_position=4)
    status = to_status(error)
    back = from_rpc(failed(status.code, status.details, status.trailing_metadata))
    assert isinstance(back, Exhausted)
    assert vars(back) == vars(error)


def test_what_was_not_said_stays_unsaid() -> None:
    back = error_of(detail_of(Gap("again", limit=7)))
    assert (back.limit, back.retry_after_s, back.queue_position, back.hint) == ("7", None, None, "")


@pytest.mark.parametrize(
    ("status", "details", "expected", "retryable"),
    [
        (S.UNAVAILABLE, "connection refused", Unavailable, True),
        (S.DEADLINE_EXCEEDED, "Deadline Exceeded", DeadlineExceeded, False),
        (S.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 8)", TooLarge, False),
        (S.RESOURCE_EXHAUSTED, "quota", Exhausted, True),
        (S.UNIMPLEMENTED, "Method not found!", NotFound, False),
        (S.UNAUTHENTICATED, "", Unauthenticated, False),
        (S.CANCELLED, "Locally cancelled by application!", Cancelled, False),
        (S.CANCELLED, "CANCELLED", Unavailable, True),  # a server that closes drops calls like this
        (S.INVALID_ARGUMENT, "", InvalidArgument, False),
        (S.UNKNOWN, "boom", Internal, False),
    ],
)
def test_a_bare_status_is_told_as_what_it_stands_for(
    status: grpc.StatusCode, details: str, expected: type, retryable: bool
) -> None:
    error = from_rpc(failed(status, details))
    assert (type(error), error.retryable) == (expected, retryable)
    assert status.name in error.message


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x08\x05\x12\x05other"])
def test_details_that_are_broken_or_contradict_the_status_are_not_believed(payload: bytes) -> None:
    error = from_rpc(failed(S.UNAVAILABLE, "down", (("grpc-status-details-bin", payload),)))
    assert isinstance(error, Unavailable)


def test_a_code_of_a_newer_peer_is_named() -> None:
    error = error_of(common_pb2.ErrorDetail(code=999, message="new"))
    assert isinstance(error, Internal)
    assert "999" in error.message
