"""The smallest teacher on the serving frame: Describe and Score over a fake engine in its own process.

python -m tests.integration.serving.score_service '{"settings": {...}, "engine": {...}, "policy": {...}}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from google.protobuf.message import Message
from pydantic import BaseModel, Field

from preceptor import wire
from preceptor.config import TeacherSettings
from preceptor.errors import Unsupported
from preceptor.logs import configure_logs
from preceptor.types import Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import CurrentCall, door_router, needs
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engine_host.methods import DESCRIBE
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engine_host.scoring import ScoringClient
from preceptor_serving.engine_host.watched import watched_host
from preceptor_serving.engines.registry import create_engine
from preceptor_serving.frame.call import Call
from preceptor_serving.run import run_service
from preceptor_serving.service import GrpcService, Rpc, ServiceContext

QUICK = HostPolicy(heartbeat_s=0.2, backoff_first_s=0.05, restart_wait_s=20.0, stop_grace_s=0.5)


class ScoreBody(BaseModel):
    """One sequence; the answer has the log-probability of every response token."""

    context: list[int] = Field(min_length=1)
    response: list[int]
    temperature: float = Field(default=1.0, gt=0)


class ScoreService:
    """A `Service`."""

    name = "teacher"

    def __init__(self, engine: Mapping[str, Any] | None = None, policy: HostPolicy = QUICK, *, inline: bool = False) -> None:
        self.spec = EngineSpec("fake", "fake", dict(engine or {}))
        self.policy, self.inline = policy, inline
        self.host: EngineChannel | None = None

    def grpc_services(self) -> tuple[GrpcService, ...]:
        descriptor = teacher_pb2.DESCRIPTOR.services_by_name["Teacher"]
        rest = {method.name: Rpc(self.not_here, Scope.SCORE) for method in descriptor.methods}
        rpcs = {"Describe": Rpc(self.describe, Scope.SCORE), "Score": Rpc(self.score, Scope.SCORE)}
        return (GrpcService(descriptor, rest | rpcs),)

    def rest_routers(self) -> tuple[APIRouter, ...]:
        router = door_router("/v1")

        @router.post("/score")
        @needs(Scope.SCORE)
        async def score(body: ScoreBody, call: CurrentCall) -> dict[str, list[float]]:
            item = teacher_pb2.ScoreItem(
                sequence=wire.sequence_to_proto(Sequence.of(body.context, body.response)),
                want=wire.want_to_proto(Want(sampled=True, temperature=body.temperature)),
            )
            reply = await self.score(teacher_pb2.ScoreRequest(teacher=wire.choice_to_proto("fake"), items=[item]), call)
            return {"sampled": wire.rows_from_proto(reply.results[0].rows).sampled.tolist()}

        return (router,)

    async def start(self, context: ServiceContext) -> None:
        context.lifecycle.loading("the fake engine")
        self.host = self._inline() if self.inline else watched_host(self.spec, self.policy, context)
        await self.host.start()

    def _inline(self) -> InlineEngine:
        return InlineEngine(lambda: create_engine(self.spec.engine, self.spec.options))

    async def stop(self) -> None:
        if self.host is not None:
            await self.host.stop()

    async def describe(self, request: teacher_pb2.DescribeRequest, call: Call) -> teacher_pb2.DescribeReply:
        return teacher_pb2.DescribeReply.FromString(await self.host.call(DESCRIBE, b"", timeout_s=call.remaining_s()))

    async def not_here(self, request: Message, call: Call) -> Message:
        raise Unsupported("this teacher only scores")

    async def score(self, request: teacher_pb2.ScoreRequest, call: Call) -> teacher_pb2.ScoreReply:
        return await ScoringClient(self.host).score_messages(request, timeout_s=call.remaining_s())


def main(config: dict[str, Any]) -> int:
    settings = TeacherSettings(**config["settings"])
    configure_logs("teacher", log_format="json", level="info")
    return run_service(ScoreService(config.get("engine"), HostPolicy(**config.get("policy") or {})), settings)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
