"""Gives every request exactly one named outcome."""

from __future__ import annotations

import asyncio

from preceptor.errors import DeadlineExceeded, Internal, PreceptorError
from preceptor.logs import get_logger

OK = "OK"
log = get_logger("preceptor.requests")


def named_error(error: Exception, request_id: str, deadline: float) -> PreceptorError:
    """The error that the caller is told. An unforeseen one is a defect: it is logged whole and told by request id only."""
    if isinstance(error, PreceptorError):
        return error
    if isinstance(error, TimeoutError) and asyncio.get_running_loop().time() >= deadline:
        return DeadlineExceeded("the deadline passed before the reply was ready", hint="ask for less, or allow more time")
    log.error("defect", request_id=request_id, exc_info=error)
    return Internal("an unforeseen failure", hint=f"please report it with request id {request_id}")
