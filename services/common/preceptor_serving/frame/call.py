"""What a handler may know about the request around it."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from preceptor_serving.auth.identity import Identity

REQUEST_ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout"  # seconds; gRPC has its own
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Door(StrEnum):
    GRPC = "grpc"
    REST = "rest"
    INLINE = "inline"  # no socket: a caller in the service's own process


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it reached a door. Header names are in lower case; `timeout_s` is what the caller asked for."""

    door: Door
    method: str
    headers: Mapping[str, str]
    timeout_s: float | None = None
    path_key: str | None = None

    def request_id(self) -> str:
        """The caller's own id where it has the shape of one, else a new one."""
        given = self.headers.get(REQUEST_ID_HEADER, "")
        return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


@dataclass(slots=True)
class Call:
    """An admitted request. `deadline` is on the event loop's clock; the byte counts end up in metrics and the access log."""

    door: Door
    method: str
    request_id: str
    identity: Identity
    deadline: float
    received_bytes: int = field(default=0, compare=False)
    sent_bytes: int = field(default=0, compare=False)

    def remaining_s(self) -> float:
        """Seconds until the caller stops waiting; never negative."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def bound(self) -> asyncio.Timeout:
        """`async with call.bound():` ends the block when the deadline passes."""
        return asyncio.timeout_at(self.deadline)
