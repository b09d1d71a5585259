"""What a real provider does on a bad day, on request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.responses import JSONResponse, Response

from preceptor.errors import ConfigurationError

RETRY_AFTER_S = 1
HANG_S = 3600.0


def error_response(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error in the OpenAI shape."""
    body = {"error": {"message": message, "type": code, "param": None, "code": code}}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


async def _rate_limited() -> Response:
    headers = {"retry-after": str(RETRY_AFTER_S)}
    return error_response(429, "Too many requests.", "rate_limit_exceeded", headers)


async def _server_error() -> Response:
    return error_response(503, "The server is overloaded.", "server_error")


async def _hang() -> Response:
    await asyncio.sleep(HANG_S)
    return error_response(504, "The server gave up.", "server_error")


FAULTS: dict[str, Callable[[], Awaitable[Response]]] = {
    "rate_limited": _rate_limited,
    "server_error": _server_error,
    "hang": _hang,
}
"""Name -> what is answered instead of the truth. To add a fault, write a function like those above and name it here."""


class FaultPlan:
    """Which requests go wrong: first those of `script` in its order ("" lets one pass), then a share of each fault at random."""

    def __init__(self, shares: Mapping[str, float] | None = None, script: Sequence[str] = (), seed: int = 0) -> None:
        self.shares = dict(shares or {})
        unknown = {*self.shares, *script} - {*FAULTS, ""}
        if unknown or sum(self.shares.values()) > 1:
            raise ConfigurationError(
                "no such faults",
                field="fault",
                value=sorted(unknown) or self.shares,
                limit=f"shares of 1 of {', '.join(FAULTS)}",
            )
        self._draws = random.Random(seed)  # noqa: S311 - chooses faults, guards nothing
        self._left = list(script)

    def next(self) -> str:
        """The fault of the next request; empty: none."""
        if self._left:
            return self._left.pop(0)
        draw = self._draws.random()
        for name, share in self.shares.items():
            if draw < share:
                return name
            draw -= share
        return ""

    async def answer(self, fault: str) -> Response:
        """What is answered instead of the truth."""
        return await FAULTS[fault]()
