"""Typed calls into an engine, for whoever holds a channel to one."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor import wire
from preceptor.error_details import error_of
from preceptor.types import ModelInfo, ModelRef, Scored
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.engine_host.frames import join_name
from preceptor_serving.engine_host.methods import DESCRIBE, DROP_VERSION, LOAD_VERSION, SCORE
from preceptor_serving.engines.protocol import Outcome, ScoreItem

DESCRIBE_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 900.0
ANY_TEACHER = "engine"  # an engine serves one model; its name is the service's business


class ScoringClient:
    """What a service does with an engine. Doors pass messages through; `score` is the same for typed values."""

    def __init__(self, channel: EngineChannel) -> None:
        self.channel = channel

    async def describe(self) -> tuple[ModelInfo, ...]:
        reply = await self.channel.call(DESCRIBE, b"", timeout_s=DESCRIBE_TIMEOUT_S)
        return tuple(wire.model_info_from_proto(info) for info in teacher_pb2.DescribeReply.FromString(reply).teachers)

    async def score_messages(self, request: teacher_pb2.ScoreRequest, *, timeout_s: float) -> teacher_pb2.ScoreReply:
        """One result for each item, in order, with the rows already in the wanted grade."""
        reply = await self.channel.call(SCORE, request.SerializeToString(), timeout_s=timeout_s)
        return teacher_pb2.ScoreReply.FromString(reply)

    async def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None, *, timeout_s: float) -> list[Outcome]:
        """The same for typed values."""
        request = teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto(ANY_TEACHER, version))
        for item in items:
            request.items.add(sequence=wire.sequence_to_proto(item.sequence), want=wire.want_to_proto(item.want))
        reply = await self.score_messages(request, timeout_s=timeout_s)
        return [outcome_from_proto(result, item) for result, item in zip(reply.results, items, strict=True)]

    async def load_version(self, version: ModelRef, folder: str, *, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        payload = join_name(folder, wire.model_ref_to_proto(version).SerializeToString())
        await self.channel.call(LOAD_VERSION, payload, timeout_s=timeout_s)

    async def drop_version(self, version: ModelRef) -> None:
        payload = wire.model_ref_to_proto(version).SerializeToString()
        await self.channel.call(DROP_VERSION, payload, timeout_s=DESCRIBE_TIMEOUT_S)


def outcome_from_proto(result: teacher_pb2.ScoreResult, item: ScoreItem) -> Outcome:
    """The typed outcome; candidate values come without their offsets, which the request has."""
    if result.WhichOneof("outcome") == "error":
        return error_of(result.error)
    offsets = item.want.candidates.offsets if item.want.candidates is not None else None
    return Scored(wire.rows_from_proto(result.rows, offsets), wire.receipt_from_proto(result.receipt))
