"""Every declared limit at its last good value and at its first bad one, through the real gRPC door.

Behind the door stands a service that accepts everything, so that a refusal is the door's and an acceptance is one, too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass

from preceptor import limits
from preceptor.config import TeacherSettings
from preceptor.config.settings import MIB
from preceptor.errors import ErrorCode, PreceptorError
from preceptor.rpc_errors import from_rpc
from preceptor_proto.v1 import limits_pb2, rollout_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.run import running
from preceptor_serving.service import GrpcService, Rpc, ServiceContext
from scripts.limits_page import ONE_REQUIRED, PAGE, QUEUE_MESSAGES, SERVICES, Declared, declared, limits_table, page_with
from tests.unit.limits.cases import BUILDERS, Case, cases_of

ROOMY = 80 * MIB  # above the largest limit of a single field
REFUSALS = {ErrorCode.INVALID_ARGUMENT, ErrorCode.TOO_LARGE}


class AcceptsAll:
    """A `Service` with every call of the protocol; each reply is empty."""

    name = "teacher"

    def grpc_services(self) -> tuple[GrpcService, ...]:
        return tuple(GrpcService(one, {method.name: _accept(method) for method in one.methods}) for one in SERVICES)

    def rest_routers(self) -> tuple[()]:
        return ()

    async def start(self, context: ServiceContext) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to stop."""


def _accept(method: Any) -> Rpc:
    reply = GetMessageClass(method.output_type)

    async def one(request: Any, call: Any) -> Any:
        if method.client_streaming:
            async for _ in request:
                pass
        return reply()

    async def stream(request: Any, call: Any) -> AsyncIterator[Any]:
        yield reply()

    return Rpc(stream if method.server_streaming else one, Scope.SCORE)


@asynccontextmanager
async def door(max_message_bytes: int = ROOMY) -> AsyncGenerator[grpc.aio.Channel]:
    options = [("grpc.max_send_message_length", ROOMY)]
    settings = TeacherSettings(grpc_port=0, rest_port=0, max_message_bytes=max_message_bytes)
    async with (
        running(AcceptsAll(), settings) as house,
        grpc.aio.insecure_channel(f"127.0.0.1:{house.grpc_port}", options=options) as channel,
    ):
        yield channel


async def outcome(channel: grpc.aio.Channel, call: str, case: Case) -> PreceptorError | None:
    """The error of one call, sent as it stands."""
    if call == "queue":
        try:
            limits.check(case.request)
        except PreceptorError as error:
            return error
        return None
    service, name = call.split(".")
    [method] = [one for each in SERVICES if each.name == service for one in each.methods if one.name == name]
    path, raw = f"/{method.containing_service.full_name}/{name}", case.request.SerializeToString()
    if method.client_streaming:
        return await _refusal(channel.stream_unary(path)(iter([raw]), timeout=60))
    if method.server_streaming:
        return await _refusal(_last(channel.unary_stream(path)(raw, timeout=60)))
    return await _refusal(channel.unary_unary(path)(raw, timeout=60))


async def _last(replies: AsyncIterable[bytes]) -> bytes:
    return [reply async for reply in replies][-1]


async def _refusal(call: Awaitable[bytes]) -> PreceptorError | None:
    try:
        await call
    except grpc.aio.AioRpcError as failure:
        return from_rpc(failure)
    return None


async def hold(some: Iterable[Declared]) -> None:
    async with door() as channel:
        for limit in some:
            for case in cases_of(limit):
                error = await outcome(channel, limit.call, case)
                if case.limit is None:
                    assert error is None, (case.what, error)
                    continue
                assert error is not None, f"{case.what} was let in"
                assert error.code in REFUSALS, (case.what, error)
                assert (error.field, error.value, error.limit) == (case.field, case.value, case.limit), case.what


def is_large(limit: Declared) -> bool:
    """Its edge takes megabytes, or tens of thousands of messages."""
    return (limit.kind == "max_bytes" and limit.bound >= MIB) or (limit.kind == "max_items" and limit.bound > 4096)


async def test_every_limit_holds_at_its_edge_and_is_told_beyond_it():
    await hold(limit for limit in declared() if not is_large(limit))


@pytest.mark.slow
async def test_large_limits_hold_too():
    await hold(limit for limit in declared() if is_large(limit))


def test_every_kind_of_limit_has_a_builder_and_every_limit_both_sides():
    kinds = {field.name for field in limits_pb2.Limit.DESCRIPTOR.fields} | {ONE_REQUIRED}
    assert kinds == set(BUILDERS), "a new kind of limit needs its cases"
    for limit in declared():
        if limit.name[-1] not in ("max_bytes", "max_items"):  # those are large, and the test above builds them
            sides = {case.limit is None for case in cases_of(limit)}
            assert sides == {True, False}, limit.name


def test_every_message_with_a_limit_is_reached_from_a_call_or_from_the_queue():
    """A limit in a message that nothing carries would hold nowhere."""
    files = {service.file for service in SERVICES} | {message.file for message in QUEUE_MESSAGES}
    files |= {inner for file in files for inner in file.dependencies}
    owners = {message.name for file in files for message in file.message_types_by_name.values() if _has_limit(message)}
    assert owners == {limit.owner.name for limit in declared()}


def _has_limit(message: Any) -> bool:
    fields = any(field.GetOptions().Extensions[limits_pb2.limit].ListFields() for field in message.fields)
    return fields or any(one.GetOptions().Extensions[limits_pb2.one_required] for one in message.oneofs)


async def test_a_message_is_refused_from_the_first_byte_over_the_operators_limit():
    async with door(MIB) as channel:
        for size in (MIB - 1, MIB, MIB + 1):
            raw = _render(2 * size - len(_render(size)))  # the text that makes the whole message that long
            assert len(raw) == size
            error = await _refusal(channel.unary_unary("/preceptor.v1.Rollout/Render")(raw, timeout=60))
            if size <= MIB:
                assert error is None
                continue
            assert error is not None
            found = (error.code, error.field, error.value, error.limit)
            assert found == (ErrorCode.TOO_LARGE, "request", f"{size} bytes", f"<= {MIB} bytes")


def _render(text_bytes: int) -> bytes:
    return rollout_pb2.RenderRequest(items=[rollout_pb2.RenderItem(text="a" * text_bytes)]).SerializeToString()


def test_the_page_of_limits_is_what_the_protos_say():
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with(limits_table(), page), "run scripts/limits_page.py"
