"""What a real provider does on a bad day, on request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from starlette.responses import Response, StreamingResponse

from preceptor.errors import ConfigurationError
from preceptor_teacher.testing.dialects import Dialect

RETRY_AFTER_S = 1
HANG_S = 3600.0
DRIP_PIECES = 8
DRIP_S = 1.0  # between two pieces of a reply

Truth = Callable[[], Awaitable[Response]]
Fault = Callable[[Dialect, Truth], Awaitable[Response]]


async def _rate_limited(dialect: Dialect, truth: Truth) -> Response:
    return dialect.error(429, "Too many requests.", {"retry-after": str(RETRY_AFTER_S)})


async def _server_error(dialect: Dialect, truth: Truth) -> Response:
    return dialect.error(503, "The server is overloaded.")


async def _expired_key(dialect: Dialect, truth: Truth) -> Response:
    return dialect.error(401, "The key has expired.")


async def _hang(dialect: Dialect, truth: Truth) -> Response:
    await asyncio.sleep(HANG_S)
    return dialect.error(504, "The server gave up.")


async def _truncated(dialect: Dialect, truth: Truth) -> Response:
    """The work was done, and half of the reply is lost."""
    whole = await truth()
    body = await _body_of(whole)
    return Response(body[: len(body) // 2], media_type=whole.headers["content-type"])


async def _slow(dialect: Dialect, truth: Truth) -> Response:
    """The reply comes drop by drop."""
    whole = await truth()
    body = await _body_of(whole)
    size = max(1, -(-len(body) // DRIP_PIECES))

    async def drops() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]
            await asyncio.sleep(DRIP_S)

    return StreamingResponse(drops(), media_type=whole.headers["content-type"])


async def _body_of(response: Response) -> bytes:
    if not isinstance(response, StreamingResponse):
        return bytes(response.body)
    return "".join([str(piece) async for piece in response.body_iterator]).encode()


async def _refusal(dialect: Dialect, truth: Truth) -> Response:
    return dialect.refusal()


async def _malformed_tool_call(dialect: Dialect, truth: Truth) -> Response:
    """A tool that nobody offered, with arguments that are no JSON."""
    return dialect.malformed_tool_call()


FAULTS: dict[str, Fault] = {
    "rate_limited": _rate_limited,
    "server_error": _server_error,
    "expired_key": _expired_key,
    "hang": _hang,
    "truncated": _truncated,
    "slow": _slow,
    "refusal": _refusal,
    "malformed_tool_call": _malformed_tool_call,
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
