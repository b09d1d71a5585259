"""What every client of a service shares: the channel, the key, deadlines and retries.

A call has one deadline; the attempts at it share that deadline. An attempt is repeated only where the error says that the same
request may succeed later (`retryable`), waits as long as the service asked for, or else backs off with jitter. A mistake of the
caller is never sent twice.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import grpc
import grpc.aio
import stamina
from google.protobuf.message import Message

from preceptor.client.waiting import WaitLog
from preceptor.config.settings import MIB, ClientSettings
from preceptor.errors import DeadlineExceeded, PreceptorError, VersionGone
from preceptor.rpc_errors import from_rpc

M = TypeVar("M", bound=Message)
Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)
DEFAULT_DEADLINE_S: float = ClientSettings.model_fields["deadline_s"].default
DEFAULT_MAX_MESSAGE_BYTES: int = ClientSettings.model_fields["max_message_bytes"].default
KEEPALIVE_MS = 20_000
BACKOFF_INITIAL_S, BACKOFF_MAX_S, BACKOFF_JITTER_S = 0.1, 5.0, 0.5
ADVICE_JITTER = 0.25  # a share of the advised wait, so that clients told the same do not come back as one
ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'


class Unary(Protocol[Reply_co]):
    """A method with one reply."""

    def __call__(self, request: Any, /, *, timeout: float, metadata: Any) -> Awaitable[Reply_co]: ...


class Streamed(Protocol[Reply_co]):
    """A method with a stream of replies."""

    def __call__(self, request: Any, /, *, timeout: float, metadata: Any) -> AsyncIterable[Reply_co]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service is, and how to call it."""

    address: str
    api_key: str | None = None
    deadline_s: float = DEFAULT_DEADLINE_S
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES

    @property
    def url(self) -> str:
        """The gRPC name: host:port resolves through DNS, so that calls spread over every replica behind it."""
        return self.address if ":/" in self.address or self.address.startswith("unix:") else f"dns:///{self.address}"


class Connection:
    """A channel and the way of calling through it. Made inside an event loop; `async with` closes it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.channel = grpc.aio.insecure_channel(target.url, options=_options(target.max_message_bytes))
        self._waits = WaitLog()

    async def call(
        self, method: Unary[Reply], request: Any, *, deadline_s: float | None = None, idempotent: bool = True
    ) -> Reply:
        """The reply, or the `PreceptorError` of the last attempt; `idempotent=False` makes exactly one attempt."""
        clock = _Deadline(self.target.deadline_s if deadline_s is None else deadline_s)
        metadata = self.metadata()

        async def attempt() -> Reply:
            try:
                return await method(request, timeout=clock.remaining_s(), metadata=metadata)
            except grpc.aio.AioRpcError as failure:
                raise from_rpc(failure) from failure

        return await (with_retries(attempt, clock.remaining_s(), self._waits) if idempotent else attempt())

    async def stream(self, method: Streamed[Reply], request: Any, *, deadline_s: float | None = None) -> AsyncGenerator[Reply]:
        """The replies as they come; closing the generator ends the call at the service too.

        A stream is never repeated by itself: only the caller knows what he has.
        """
        timeout_s = self.target.deadline_s if deadline_s is None else deadline_s
        replies: Any = method(request, timeout=timeout_s, metadata=self.metadata())
        try:
            async for reply in replies:
                yield reply
        except grpc.aio.AioRpcError as failure:
            raise from_rpc(failure) from failure
        finally:
            replies.cancel()  # nothing where the stream has ended

    def unary(self, path: str, reply: type[M]) -> Unary[M]:
        """The method of that path, `package.Service/Method`, with one reply of that message class."""
        return self.channel.unary_unary(f"/{path}", request_serializer=_serialise, response_deserializer=reply.FromString)

    def streamed(self, path: str, reply: type[M]) -> Streamed[M]:
        """The same with a stream of replies."""
        return self.channel.unary_stream(f"/{path}", request_serializer=_serialise, response_deserializer=reply.FromString)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The key, and a new request id that all attempts at one call share."""
        found = (("x-request-id", uuid.uuid4().hex),)
        return (*found, ("authorization", f"Bearer {self.target.api_key}")) if self.target.api_key else found

    async def close(self) -> None:
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def with_retries(attempt: Callable[[], Awaitable[Reply]], deadline_s: float, waits: WaitLog | None = None) -> Reply:
    """What the first attempt that succeeds returns; at the deadline, the last error or `DeadlineExceeded`."""
    failed: PreceptorError | None = None
    clock, waits = _Deadline(deadline_s), waits or WaitLog()
    try:
        async with asyncio.timeout(deadline_s):
            async for one in stamina.retry_context(
                on=_wait_before_retry,
                attempts=None,
                timeout=deadline_s,
                wait_initial=BACKOFF_INITIAL_S,
                wait_max=BACKOFF_MAX_S,
                wait_jitter=BACKOFF_JITTER_S,
            ):
                with one:
                    try:
                        return await attempt()
                    except PreceptorError as error:
                        failed = error
                        if _wait_before_retry(error) is not False:
                            waits.tell(error, deadline_s - clock.remaining_s(), clock.remaining_s())
                        raise
    except TimeoutError as late:
        if isinstance(late, PreceptorError):
            raise
        why = f"; the last attempt said: {failed.message}" if failed else ""
        raise DeadlineExceeded(f"no reply within {deadline_s:.3g} s{why}", hint="allow more time, or ask for less") from failed
    raise AssertionError("a retry context ends with a result or an error")


def _wait_before_retry(error: Exception) -> bool | float:
    """False: give up; a number: wait that long; True: back off."""
    if not isinstance(error, PreceptorError) or not error.retryable or isinstance(error, VersionGone):
        return False  # a version that is gone stays gone: the caller has to name another one
    if error.retry_after_s is None:
        return True
    return error.retry_after_s * (1 + random.uniform(0, ADVICE_JITTER))  # noqa: S311 - spreads load, guards nothing


class _Deadline:
    def __init__(self, timeout_s: float) -> None:
        self._end_s = asyncio.get_running_loop().time() + timeout_s

    def remaining_s(self) -> float:
        return max(0.0, self._end_s - asyncio.get_running_loop().time())


def _options(max_message_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes + MIB),
        ("grpc.max_send_message_length", max_message_bytes + MIB),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.service_config", ROUND_ROBIN),
        ("grpc.enable_retries", 0),  # retries are ours: they honour the service's advice
    ]


def _serialise(request: Message) -> bytes:
    return request.SerializeToString()
