"""What happens to an HTTP request before it is routed: a key in the path is taken out, the body is bounded."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preceptor.errors import DeadlineExceeded, InvalidArgument, PreceptorError, TooLarge
from preceptor_serving.auth.credentials import split_key_path
from preceptor_serving.doors.rest_errors import Refused, error_response
from preceptor_serving.frame.call import Arrival, Door
from preceptor_serving.frame.frame import Frame

SCOPE_KEY = "preceptor.intake"
UNREAD = "unread"  # the method label of a request that was refused before it was routed
LINGER_S = 30.0
LINGER_IDLE_S = 2.0  # without a further byte
LINGER_BYTES = 1 << 30
BODY_GRACE_S = 20.0
SLOWEST_BYTES_PER_S = 32 << 10  # slower than that, and a body is a way to hold a connection


@dataclass(slots=True)
class Intake:
    """What was learnt on the way in."""

    path_key: str | None = None
    received_bytes: int = 0
    body_read: asyncio.Event = field(default_factory=asyncio.Event)


class IntakeMiddleware:
    """Puts an `Intake` into the scope; a body over the limit is refused before the rest of it is read."""

    def __init__(self, app: ASGIApp, frame: Frame) -> None:
        self._app = app
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[SCOPE_KEY] = intake = _take_key_out(scope)
        body = _Body(receive, send, intake, self._frame.limits.max_message_bytes, can_linger=_declared(scope, b"expect") is None)
        error = _framing(scope) or body.declared(int(_declared(scope, b"content-length") or 0))
        if error is not None:
            self._frame.refused(Arrival(Door.REST, UNREAD, {}), error)
            await error_response(error, {"Connection": "close"})(scope, body.receive, body.send)
            return
        await self._app(scope, body.receive, body.send)


class _Body:
    """One request's body: counted and bounded while it is read, and given a moment to end where nobody read it.

    A connection that is closed on unread bytes is reset, and the reset can overtake the reply that says why. So an early
    reply is written at once, and what still arrives is thrown away for a bounded time before the reply is ended.
    """

    def __init__(self, receive: Receive, send: Send, intake: Intake, max_bytes: int, *, can_linger: bool) -> None:
        self._receive, self._send, self._intake = receive, send, intake
        self._unread = can_linger
        self._began: float | None = None
        self.max_bytes = max_bytes

    async def receive(self) -> Message:
        message = await self._next()
        self._intake.received_bytes += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._unread = False
            self._intake.body_read.set()
        if self._intake.received_bytes > self.max_bytes:
            raise Refused(self.too_large(self._intake.received_bytes))
        return message

    async def _next(self) -> Message:
        """The next part. While the body lasts it has a deadline, which moves on with the bytes that came."""
        if self._intake.body_read.is_set():
            return await self._receive()  # a wait for the client to leave
        clock = asyncio.get_running_loop().time
        self._began = clock() if self._began is None else self._began
        try:
            async with asyncio.timeout_at(self._began + BODY_GRACE_S + self._intake.received_bytes / SLOWEST_BYTES_PER_S):
                return await self._receive()
        except TimeoutError:
            raise Refused(self._too_slow(clock() - self._began)) from None

    def _too_slow(self, waited_s: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            "the body came too slowly",
            field="body",
            value=f"{self._intake.received_bytes} bytes in {waited_s:.0f} s",
            limit=f"{BODY_GRACE_S:.0f} s, and 1 s more for each {SLOWEST_BYTES_PER_S} bytes",
            hint="send Content-Length and the whole body at once",
        )

    async def send(self, message: Message) -> None:
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (ends and self._unread):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._discard()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard(self) -> None:
        thrown_away_bytes = 0
        while self._unread and thrown_away_bytes < LINGER_BYTES:
            async with asyncio.timeout(LINGER_IDLE_S):
                message = await self._receive()
            thrown_away_bytes += len(message.get("body", b""))
            self._unread = message.get("more_body", False)

    def declared(self, length_bytes: int) -> TooLarge | None:
        """The refusal of a length that is over the limit."""
        return self.too_large(length_bytes) if length_bytes > self.max_bytes else None

    def too_large(self, seen_bytes: int) -> TooLarge:
        return TooLarge(
            f"the body is longer than {self.max_bytes} bytes",
            field="body",
            value=f">= {seen_bytes} bytes",
            limit=f"<= {self.max_bytes} bytes",
            hint="send fewer items in one request",
        )


def _take_key_out(scope: Scope) -> Intake:
    key, path = split_key_path(scope["path"])
    if key is not None:
        scope["path"], scope["raw_path"] = path, path.encode()
    return Intake(path_key=key)


def _framing(scope: Scope) -> PreceptorError | None:
    """The refusal of a request whose body ends in two places: a proxy before this server may have believed the other one."""
    length, coding = _declared(scope, b"content-length"), _declared(scope, b"transfer-encoding")
    if coding is None or (length is None and scope["http_version"] != "1.0"):
        return None
    return InvalidArgument(
        "the request says twice where its body ends",
        field="transfer-encoding",
        value=f"{coding.decode('latin-1')} beside {'HTTP/1.0' if length is None else 'content-length'}",
        limit="content-length or transfer-encoding",
    )


def _declared(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header; the server has refused a content-length that is no number."""
    return dict(scope["headers"]).get(name)
