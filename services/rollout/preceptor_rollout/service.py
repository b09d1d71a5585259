"""`RolloutService`: everything a rollout service does, without a socket."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preceptor import wire
from preceptor.client.teacher_doors import TeacherDoors
from preceptor.config.settings import RolloutSettings
from preceptor.errors import ConfigurationError, Unavailable
from preceptor.hooks import Hooks, NoHooks
from preceptor.limits import check_name
from preceptor.queue import Queue
from preceptor.types import ModelInfo
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.advisor import Advisor, TeacherPort, teacher_link
from preceptor_rollout.calls import PIECES, RENDER, STUDENT
from preceptor_rollout.environments import Environment, environments_of
from preceptor_rollout.environments.player import Players, render_with
from preceptor_rollout.gate import Gate
from preceptor_rollout.intake import Bounds, check_request
from preceptor_rollout.meters import GenerationMeters
from preceptor_rollout.relay import Relay
from preceptor_rollout.units import UnitSize
from preceptor_rollout.versions import Version, Versions, check_policy, folders_under
from preceptor_serving.auth.identity import Scope
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.placement import PlaceEngine, in_child_process
from preceptor_serving.frame.call import Call
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.queue_link import queue_of
from preceptor_serving.run_owner import require_owner
from preceptor_serving.scheduler.types import FlowKey
from preceptor_serving.service import GrpcService, Rpc, ServiceContext
from preceptor_serving.weights import roots_of

if TYPE_CHECKING:
    from fastapi import APIRouter

ENGINES = {"hf": "rollout-hf", "vllm": "rollout-vllm"}
"""Engine of the settings -> engine of the registry."""
START_CALL_S = 60.0
BAND = 0  # jobs of a rollout service are equals


@dataclass(frozen=True, slots=True)
class Running:
    """What there is once the engine is loaded."""

    engine: EngineChannel
    student: rollout_pb2.RolloutDescribeReply
    info: ModelInfo
    versions: Versions
    relay: Relay
    advisor: Advisor
    bounds: Bounds
    meters: GenerationMeters
    lifecycle: Lifecycle


class RolloutService:
    """A `preceptor_serving.service.Service`.

    `queue` holds the response logs; the one of the settings is opened where none is given, and without either no logs are
    written. `place_engine` decides where the engine runs. Policies ask `teacher`, or the one of the settings where none is given.
    `environments` are offered beside those of the settings. `hooks` are told of the points of `episodes`.
    """

    name = "rollout"

    def __init__(
        self,
        queue: Queue | None = None,
        place_engine: PlaceEngine = in_child_process,
        teacher: TeacherPort | None = None,
        environments: Mapping[str, Environment] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._queue, self._place_engine, self._teacher = queue, place_engine, teacher
        self._environments, self._hooks = dict(environments or {}), hooks or NoHooks()
        self._link: TeacherDoors | None = None
        self._opened: list[Queue] = []
        self._engine: EngineChannel | None = None
        self._roots: list[Path] = []
        self._running: Running | None = None

    # ---- the frame's side

    def grpc_services(self) -> tuple[GrpcService, ...]:
        rpcs = {
            "Describe": Rpc(self.describe, Scope.GENERATE),
            "Render": Rpc(self.render, Scope.GENERATE),
            "Pieces": Rpc(self.pieces, Scope.GENERATE),
            "Generate": Rpc(self.generate, Scope.GENERATE),
            "LoadWeights": Rpc(self.load_weights, Scope.TRAIN),
        }
        return (GrpcService(rollout_pb2.DESCRIPTOR.services_by_name["Rollout"], rpcs),)

    def rest_routers(self) -> tuple[APIRouter, ...]:
        from preceptor_rollout.rest import rollout_router

        return (rollout_router(self),)

    async def start(self, context: ServiceContext) -> None:
        settings = context.settings
        assert isinstance(settings, RolloutSettings), "the rollout service runs on rollout settings"
        spec = engine_spec(settings)
        self._roots = roots_of(settings.weights_roots)
        self._environments |= environments_of(settings.environments)
        if self._queue is None and (opened := await queue_of(settings)):
            self._queue = opened
            self._opened.append(opened)
        if self._teacher is None and settings.teacher:
            self._teacher = self._link = teacher_link(settings, settings.teacher)
        context.lifecycle.loading(f"loading student {spec.name}")
        self._engine = engine = self._place_engine(spec, context)
        await engine.start()
        student = rollout_pb2.RolloutDescribeReply.FromString(await engine.call(STUDENT, b"", timeout_s=START_CALL_S))
        info = wire.model_info_from_proto(student.student)
        base = Version(info.model, Path(spec.options["folder"]))
        versions = Versions(engine, base, folders_under(self._roots))
        gate = Gate(settings.running_units, settings.max_queue_tasks)
        advisor = Advisor(engine, self._teacher, info, guided=student.guided)
        render, eos_ids, step_s = render_with(engine), tuple(student.eos_ids), settings.environment_step_s
        players = Players(self._environments, render, eos_ids, step_s, self._hooks)
        size = UnitSize(settings.batch_tokens, settings.unit_batches)
        relay = Relay(engine, versions, gate, self._queue, advisor, size, players)
        bounds = Bounds(settings.max_batch_items, settings.max_sequence_tokens, players.names)
        meters = GenerationMeters(context.meters.registry, lambda: gate.waiting)
        self._running = Running(engine, student, info, versions, relay, advisor, bounds, meters, context.lifecycle)

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.stop()
        if self._link is not None:
            await self._link.close()
        for queue in self._opened:
            await queue.close()

    # ---- calls

    async def describe(self, request: rollout_pb2.RolloutDescribeRequest, call: Call) -> rollout_pb2.RolloutDescribeReply:
        """The student as it was started, under the name of the weights that were swapped in last."""
        running = self._now()
        state = running.lifecycle.status().state
        reply = rollout_pb2.RolloutDescribeReply(
            student=running.student.student,
            eos_ids=running.student.eos_ids,
            state=f"SERVICE_STATE_{state.name}",
            guided=running.student.guided,
            environments=running.bounds.environments,
        )
        reply.student.model.CopyFrom(wire.model_ref_to_proto(running.versions.newest.ref))
        return reply

    async def render(self, request: rollout_pb2.RenderRequest, call: Call) -> rollout_pb2.RenderReply:
        """Ids of every item, in order."""
        reply = await self._now().engine.call(RENDER, request.SerializeToString(), timeout_s=call.remaining_s())
        return rollout_pb2.RenderReply.FromString(reply)

    async def pieces(self, request: rollout_pb2.PiecesRequest, call: Call) -> rollout_pb2.PiecesReply:
        """What every id stands for, in order."""
        reply = await self._now().engine.call(PIECES, request.SerializeToString(), timeout_s=call.remaining_s())
        return rollout_pb2.PiecesReply.FromString(reply)

    async def generate(self, request: rollout_pb2.GenerateRequest, call: Call) -> AsyncGenerator[rollout_pb2.GenerateReply]:
        """One reply for every rollout, in the order in which they end; what is wrong with the request is raised."""
        running = self._now()
        require_owner(self._roots, request.run, call.identity)
        flow = FlowKey(running.info.model.name, call.identity.tenant, call.identity.job_for(request.job), BAND)
        check_request(request, running.info, running.bounds, has_logs=self._queue is not None)
        running.advisor.check(request)
        async with aclosing(running.relay.replies(request, call, flow)) as replies:
            async for reply in replies:
                running.meters.count(reply)
                yield reply

    async def load_weights(self, request: rollout_pb2.LoadWeightsRequest, call: Call) -> rollout_pb2.LoadWeightsReply:
        """Answers when the engine holds the version and new units draw from it."""
        require_owner(self._roots, request.version.model.run, call.identity)
        check_policy(request.policy)
        began = time.perf_counter()
        version = await self._now().versions.swap(wire.model_ref_from_proto(request.version.model))
        return rollout_pb2.LoadWeightsReply(model=wire.model_ref_to_proto(version.ref), load_s=time.perf_counter() - began)

    def _now(self) -> Running:
        if self._running is None:
            raise Unavailable("the student is not loaded yet")
        return self._running


def engine_spec(settings: RolloutSettings) -> EngineSpec:
    """The engine of a configuration: NAME=FOLDER, or a folder alone, which gives the name."""
    if settings.model is None:
        raise ConfigurationError(
            "no student is configured",
            field="rollout.model",
            hint="give NAME=FOLDER as --model of the service, PRECEPTOR_ROLLOUT_MODEL, or rollout.model in a file",
        )
    name, separator, folder = settings.model.rpartition("=")
    name = check_name(name if separator else Path(folder).resolve().name, "rollout.model")
    options: dict[str, Any] = {
        "name": name,
        "folder": str(Path(folder).resolve()),
        "dtype": settings.dtype,
        "threads": settings.threads,
        "log_chunk_tokens": settings.log_chunk_tokens,
        "max_versions": settings.max_versions,
    }
    if settings.engine == "hf":
        options |= {"device": settings.device, "batch_tokens": settings.batch_tokens}
    elif "device" in settings.model_fields_set:
        raise ConfigurationError("vLLM chooses its device itself", field="rollout.device", value=settings.device, limit="nothing")
    further = further_options(settings.engine_options)
    if twice := sorted(further.keys() & options.keys()):
        raise ConfigurationError(
            f"{twice[0]} is a setting of its own", field="rollout.engine_options", value=twice[0], limit="each option once"
        )
    return EngineSpec(name, ENGINES[settings.engine], options | further)


def further_options(text: str) -> dict[str, Any]:
    """The object in `engine_options`; the engine refuses what it does not know."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"it is not JSON: {error}", field="rollout.engine_options", value=text) from error
    if not isinstance(options, dict):
        raise ConfigurationError("it is not an object", field="rollout.engine_options", value=text, limit='{"name": value}')
    return options
