"""Turns the calls of a service into gRPC method handlers.

Messages are parsed and serialised here and not by gRPC: what does not parse is then an INVALID_ARGUMENT with a name instead
of an internal error, and sizes are known exactly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from preceptor import limits
from preceptor.errors import ConfigurationError, InvalidArgument, PreceptorError, TooLarge
from preceptor.rpc_errors import to_status
from preceptor_serving.frame.call import REQUEST_ID_HEADER, Arrival, Call, Door
from preceptor_serving.frame.frame import Frame
from preceptor_serving.service import GrpcService, Rpc

Context = grpc.aio.ServicerContext[Any, Any]


def generic_handler(service: GrpcService, frame: Frame) -> grpc.GenericRpcHandler:
    """All methods of one protocol service; `ConfigurationError` where one has no handler, or a handler no method."""
    methods = {method.name: method for method in service.descriptor.methods}
    if odd := methods.keys() ^ service.rpcs.keys():
        names = ", ".join(sorted(odd))
        raise ConfigurationError(
            f"{service.descriptor.full_name}: methods and handlers differ in {names}", field="rpcs", value=names
        )
    handlers = {name: _method_handler(methods[name], rpc, frame) for name, rpc in service.rpcs.items()}
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)


def _method_handler(method: MethodDescriptor, rpc: Rpc, frame: Frame) -> grpc.RpcMethodHandler:
    endpoint = _Endpoint(method, rpc, frame)
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    return getattr(grpc, f"{kind}_rpc_method_handler")(endpoint.reply_stream if method.server_streaming else endpoint.reply_one)


class _Endpoint:
    """One method: raw bytes in, raw bytes out, and in between everything that each call has to pass."""

    def __init__(self, method: MethodDescriptor, rpc: Rpc, frame: Frame) -> None:
        self._name = f"{method.containing_service.name}.{method.name}"
        self._request_class = GetMessageClass(method.input_type)
        self._streamed_request = method.client_streaming
        self._rpc = rpc
        self._frame = frame

    async def reply_one(self, raw: Any, context: Context) -> bytes | None:
        """A call with one reply."""
        reply: list[bytes] = []

        async def answer(call: Call) -> None:
            reply.append(self._serialise(await self._rpc.handler(self._request(raw, call), call), call))

        await self._answered(context, answer)
        return reply[0]

    async def reply_stream(self, raw: Any, context: Context) -> None:
        """A call with a stream of replies; the handler's generator is closed whatever ends the call."""

        async def answer(call: Call) -> None:
            async with aclosing(self._rpc.handler(self._request(raw, call), call)) as replies:
                async for reply in replies:
                    await context.write(self._serialise(reply, call))

        await self._answered(context, answer)

    async def _answered(self, context: Context, answer: Callable[[Call], Awaitable[None]]) -> None:
        failed: PreceptorError | None = None
        try:
            with self._admitted(context) as call:
                async with call.bound():
                    await answer(call)
        except PreceptorError as error:
            failed = error
        if failed is not None:
            await abort(context, failed)

    @contextmanager
    def _admitted(self, context: Context) -> Generator[Call]:
        headers = _text_metadata(context)
        arrival = Arrival(Door.GRPC, self._name, headers, timeout_s=context.time_remaining())
        with self._frame.admit(arrival, self._rpc.scope, always=self._rpc.always) as call:
            context.set_trailing_metadata(((REQUEST_ID_HEADER, call.request_id),))
            yield call

    def _request(self, raw: Any, call: Call) -> Any:
        return self._requests(raw, call) if self._streamed_request else self._parse(raw, call)

    async def _requests(self, raw: AsyncIterator[bytes], call: Call) -> AsyncIterator[Message]:
        async for message in raw:
            yield self._parse(message, call)

    def _parse(self, raw: bytes, call: Call) -> Message:
        call.received_bytes += len(raw)
        self._check_size(raw, "request")
        try:
            message = self._request_class.FromString(raw)
        except DecodeError:
            name = self._request_class.DESCRIPTOR.name
            raise InvalidArgument(f"the bytes are not a {name}", field="request", value=f"{len(raw)} bytes", limit=name) from None
        limits.check(message)
        return message

    def _serialise(self, reply: Message, call: Call) -> bytes:
        raw = reply.SerializeToString()
        self._check_size(raw, "reply")
        call.sent_bytes += len(raw)
        return raw

    def _check_size(self, raw: bytes, what: str) -> None:
        limit = self._frame.limits.max_message_bytes
        if len(raw) > limit:
            raise TooLarge(
                f"the {what} is {len(raw)} bytes long; the limit is {limit}",
                field=what,
                value=f"{len(raw)} bytes",
                limit=f"<= {limit} bytes",
                hint="send fewer items or ask for fewer signals in one call",
            )


async def abort(context: Context, error: PreceptorError) -> None:
    """Ends the call with the error's rich status, keeping the metadata that was set before."""
    status = to_status(error)
    kept = tuple(context.trailing_metadata() or ())
    await context.abort(status.code, status.details, (*kept, *status.trailing_metadata))


def _text_metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
