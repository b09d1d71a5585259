"""Routes that pass the frame.

router = door_router()

@router.post("/v1/score")
@needs(Scope.SCORE)
async def score(body: ScoreBody, call: CurrentCall) -> ScoreAnswer: ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from preceptor.error_details import error_body
from preceptor.errors import ConfigurationError, InvalidArgument
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_disconnect import while_connected
from preceptor_serving.doors.rest_errors import ErrorShape, from_http, from_validation
from preceptor_serving.doors.rest_intake import SCOPE_KEY, Intake
from preceptor_serving.doors.rest_json import JsonRequest, check_headers
from preceptor_serving.frame.call import REQUEST_ID_HEADER, TIMEOUT_HEADER, Arrival, Call, Door
from preceptor_serving.frame.frame import Frame

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_NEED = "__preceptor_need__"
_SHAPE = "__preceptor_error_shape__"
ANY_KEY = None
"""For routes that tell a caller about himself: a valid key is enough, whatever its scopes."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a route asks of a key, and whether it answers while the service loads or drains."""

    scope: Scope | None
    always: bool


def needs(scope: Scope | None, *, always: bool = False) -> Callable[[F], F]:
    """Names the scope of a route; stands under the route's own decorator."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _NEED, Need(scope, always))
        return endpoint

    return mark


def shapes_errors(shape: ErrorShape) -> Callable[[F], F]:
    """Refusals of this route have this shape, those before its handler too: for doors that speak another server's dialect."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _SHAPE, shape)
        return endpoint

    return mark


def error_shape(request: Request) -> ErrorShape:
    """The shape of the route that the request met."""
    return getattr(request.scope.get("endpoint"), _SHAPE, error_body)


def current_call(request: Request) -> Call:
    return request.state.call


CurrentCall = Annotated[Call, Depends(current_call)]


class FrameRoute(APIRoute):
    """A route whose requests are admitted, bounded, counted and logged like those of every other door."""

    @property
    def need(self) -> Need:
        need = getattr(self.endpoint, _NEED, None)
        if need is None:
            raise ConfigurationError(
                f"route {self.path} names no scope", field="needs", value=self.path, hint="add @needs(Scope...)"
            )
        return need

    def get_route_handler(self) -> Handler:
        answer, need, path = super().get_route_handler(), self.need, self.path_format
        body = self.body_field.field_info.annotation if self.body_field else None

        async def handler(request: Request) -> Response:
            frame: Frame = request.app.state.frame
            stack = ExitStack()
            with stack:
                call = stack.enter_context(frame.admit(_arrival(request, path), need.scope, always=need.always))
                request.state.call = call
                response = await _answered(answer, JsonRequest(request.scope, request.receive, body), call, body)
                response.headers[REQUEST_ID_HEADER] = call.request_id
                return _Timely.of(response, stack, call) if isinstance(response, StreamingResponse) else response

        return handler


def door_router(prefix: str = "") -> APIRouter:
    """A router whose routes all pass the frame."""
    return APIRouter(prefix=prefix, route_class=FrameRoute)


def _arrival(request: Request, path: str) -> Arrival:
    intake: Intake = request.scope[SCOPE_KEY]
    return Arrival(Door.REST, f"{request.method} {path}", request.headers, _timeout_s(request), intake.path_key)


def _timeout_s(request: Request) -> float | None:
    """The caller's deadline; text that is no positive number is refused when the body would be."""
    text = request.headers.get(TIMEOUT_HEADER)
    try:
        return float(text) if text else None
    except ValueError:
        return None


async def _answered(answer: Handler, request: Request, call: Call, body: object) -> Response:
    _check_timeout(request)
    if body is not None:
        check_headers(request.headers)
    try:
        async with call.bound():
            response = await while_connected(request, answer(request))
    except RequestValidationError as failure:
        raise from_validation(failure, body) from None
    except StarletteHTTPException as failure:
        raise from_http(failure, request) from None
    finally:
        call.received_bytes = request.scope[SCOPE_KEY].received_bytes
    call.sent_bytes = len(getattr(response, "body", b""))
    return response


def _check_timeout(request: Request) -> None:
    text = request.headers.get(TIMEOUT_HEADER)
    if text and not (_timeout_s(request) or 0) > 0:
        raise InvalidArgument(f"{TIMEOUT_HEADER} is no time", field=TIMEOUT_HEADER, value=text, limit="seconds, > 0")


class _Timely(StreamingResponse):
    """A stream of which every message has to leave by the deadline: a peer that stops reading keeps neither place nor memory."""

    call: Call

    @classmethod
    def of(cls, response: StreamingResponse, stack: ExitStack, call: Call) -> _Timely:
        """The same reply, admitted until it has ended."""
        content = _held_open(response.body_iterator, stack.pop_all(), call)
        timely = cls(content, response.status_code, background=response.background)
        timely.raw_headers = response.raw_headers
        timely.call = call
        return timely

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with self.call.bound():
                await send(message)

        async with aclosing(cast("AsyncGenerator[Any]", self.body_iterator)):
            await super().__call__(scope, receive, in_time)


async def _held_open(content: AsyncIterable[Any], stack: ExitStack, call: Call) -> AsyncGenerator[Any]:
    """Keeps a streamed reply admitted until its last chunk, and inside its deadline."""
    chunks = aiter(content)
    with stack:
        while True:
            async with call.bound():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            call.sent_bytes += len(chunk)
            yield chunk
