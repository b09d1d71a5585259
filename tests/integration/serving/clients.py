"""Requests that the serving tests send."""

from __future__ import annotations

from typing import Any

import grpc

from preceptor import wire
from preceptor.errors import PreceptorError
from preceptor.rpc_errors import from_rpc
from preceptor.types import Sequence, Want
from preceptor_proto.v1 import teacher_pb2, teacher_pb2_grpc

WIDE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def score_request(context: list[int], response: list[int], **fields: Any) -> teacher_pb2.ScoreRequest:
    item = teacher_pb2.ScoreItem(
        sequence=wire.sequence_to_proto(Sequence.of(context, response)), want=wire.want_to_proto(Want(sampled=True))
    )
    return teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto("fake"), items=[item], **fields)


def channel(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=WIDE)


async def score(
    open_channel: grpc.aio.Channel,
    request: teacher_pb2.ScoreRequest | None = None,
    *,
    key: str | None = None,
    timeout_s: float | None = 30.0,
) -> teacher_pb2.ScoreReply:
    """One call; failures are raised as the errors they stand for."""
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    stub = teacher_pb2_grpc.TeacherStub(open_channel)
    try:
        return await stub.Score(request or score_request([1, 2], [3, 4]), metadata=metadata, timeout=timeout_s)
    except grpc.aio.AioRpcError as failure:
        raise from_rpc(failure) from failure


async def outcome(open_channel: grpc.aio.Channel, request: teacher_pb2.ScoreRequest | None = None, **how: Any) -> str:
    """OK, or the code of the error."""
    try:
        await score(open_channel, request, **how)
    except PreceptorError as error:
        return error.code.value
    return "OK"
