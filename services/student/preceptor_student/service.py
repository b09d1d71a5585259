"""`StudentService`: everything a student service does, without a socket. The engine computes; this admits and bounds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from preceptor.config.settings import StudentSettings
from preceptor.errors import ConfigurationError, Internal, InvalidArgument, TooLarge, Unavailable
from preceptor_proto.v1 import student_pb2
from preceptor_serving.auth.identity import Scope
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.placement import PlaceEngine, in_child_process
from preceptor_serving.frame.call import Call
from preceptor_serving.lifecycle.state import Lifecycle, State
from preceptor_serving.run_owner import claim, require_owner
from preceptor_serving.service import GrpcService, Rpc, ServiceContext
from preceptor_student.meters import TrainingMeters
from preceptor_student.pack import pack

if TYPE_CHECKING:
    from fastapi import APIRouter

ENGINE = "student"
M = TypeVar("M", bound=Message)


class StudentService:
    """A `preceptor_serving.service.Service`. `place_engine` decides where the engine runs.

    The engine dies with its runs' weights since their last checkpoint: after `EngineFailed` the learner opens its run again
    and sends from `durable_step + 1`.
    """

    name = "student"

    def __init__(self, place_engine: PlaceEngine = in_child_process) -> None:
        self._place_engine = place_engine
        self._engine: EngineChannel | None = None
        self._lifecycle: Lifecycle | None = None
        self._meters: TrainingMeters | None = None
        self._max_step_bytes = 0
        self._runs_root = Path()

    # ---- the frame's side

    def grpc_services(self) -> tuple[GrpcService, ...]:
        rpcs = {
            "Status": Rpc(self.status, Scope.TRAIN),
            "OpenRun": Rpc(self.open_run, Scope.TRAIN),
            "Step": Rpc(self.step, Scope.TRAIN),
            "Checkpoint": Rpc(self.checkpoint, Scope.TRAIN),
            "Publish": Rpc(self.publish, Scope.TRAIN),
            "Evaluate": Rpc(self.evaluate, Scope.TRAIN),
        }
        return (GrpcService(student_pb2.DESCRIPTOR.services_by_name["Student"], rpcs),)

    def rest_routers(self) -> tuple[APIRouter, ...]:
        from preceptor_student.rest import student_router

        return (student_router(self),)

    async def start(self, context: ServiceContext) -> None:
        settings = context.settings
        assert isinstance(settings, StudentSettings), "the student service runs on student settings"
        spec = engine_spec(settings)
        self._runs_root = Path(spec.options["runs_root"])
        self._lifecycle, self._max_step_bytes = context.lifecycle, settings.max_step_bytes
        self._meters = TrainingMeters(context.meters.registry)
        context.lifecycle.loading(f"starting the training engine of {spec.name}")
        self._engine = self._place_engine(spec, context)
        await self._engine.start()

    async def stop(self) -> None:
        if self._engine is not None:
            await self._engine.stop()

    # ---- calls

    async def status(self, request: student_pb2.StudentStatusRequest, call: Call) -> student_pb2.StudentStatus:
        """Where a run stands: applied and durable step, epoch, newest version."""
        self._check_owner(request.run, call)
        return self._with_state(await self._call("status", request, student_pb2.StudentStatus, call))

    async def open_run(self, request: student_pb2.OpenRunRequest, call: Call) -> student_pb2.StudentStatus:
        """Opens a run or takes it over; the epoch in the reply fences every older writer."""
        claim(self._runs_root, request.run, call.identity)
        return self._with_state(await self._call("open_run", request, student_pb2.StudentStatus, call))

    async def step(self, messages: AsyncIterator[student_pb2.StepMessage], call: Call) -> student_pb2.StepReply:
        """Applies one step once: a header, then its micro-batches."""
        parts = await self._parts(messages, call)
        replies = [
            reply async for reply in self._channel.stream("step", pack(parts), timeout_s=call.remaining_s()) if reply
        ]  # empty replies are pauses
        if len(replies) != 1:
            raise Internal(f"the engine gave {len(replies)} replies to one step")
        reply = student_pb2.StepReply.FromString(replies[0])
        if self._meters is not None:
            self._meters.count(reply)
        return reply

    async def checkpoint(self, request: student_pb2.CheckpointRequest, call: Call) -> student_pb2.CheckpointReply:
        """Makes the applied step durable."""
        self._check_owner(request.run, call)
        return await self._call("checkpoint", request, student_pb2.CheckpointReply, call)

    async def publish(self, request: student_pb2.PublishRequest, call: Call) -> student_pb2.PublishReply:
        """Writes the current weights as an immutable version and names it."""
        self._check_owner(request.run, call)
        return await self._call("publish", request, student_pb2.PublishReply, call)

    async def evaluate(self, request: student_pb2.EvaluateRequest, call: Call) -> student_pb2.EvaluateReply:
        """The loss of a batch under the current weights."""
        self._check_owner(request.run, call)
        self._check_size(request.ByteSize())
        return await self._call("evaluate", request, student_pb2.EvaluateReply, call)

    # ---- the engine's side

    @property
    def _channel(self) -> EngineChannel:
        if self._engine is None:
            raise Unavailable("the training engine is not running")
        return self._engine

    async def _call(self, method: str, request: Message, reply: type[M], call: Call) -> M:
        raw = await self._channel.call(method, request.SerializeToString(), timeout_s=call.remaining_s())
        return reply.FromString(raw)

    def _check_owner(self, run: str, call: Call) -> None:
        require_owner([self._runs_root], run, call.identity)

    async def _parts(self, messages: AsyncIterator[student_pb2.StepMessage], call: Call) -> list[bytes]:
        """Header and micro-batches, serialised; refused as soon as they are too many, too large, or of another's run."""
        parts: list[bytes] = []
        wanted, total = 0, 0
        async for message in messages:
            is_header = message.WhichOneof("part") == "header"
            if is_header != (not parts):
                raise _misplaced(is_header)
            if is_header:
                self._check_owner(message.header.run, call)
                wanted = message.header.micro_batches
            part: Any = message.header if is_header else message.micro_batch
            parts.append(part.SerializeToString())
            total += len(parts[-1])
            self._check_size(total)
            if len(parts) - 1 > wanted:
                raise InvalidArgument("more micro-batches than the header says", field="header.micro_batches",
                                      value=len(parts) - 1, limit=wanted)  # fmt: skip
        if not parts:
            raise InvalidArgument("a step begins with its header", field="header", value="nothing")
        return parts

    def _check_size(self, total_bytes: int) -> None:
        if total_bytes > self._max_step_bytes:
            hint = "take fewer prompts a step, or raise max_step_bytes"
            limit = f"{self._max_step_bytes} bytes"
            raise TooLarge("the step is too large", field="micro_batches", value=f"{total_bytes} bytes", limit=limit, hint=hint)

    def _with_state(self, status: student_pb2.StudentStatus) -> student_pb2.StudentStatus:
        state = self._lifecycle.status().state if self._lifecycle else State.LOADING
        name = State.DRAINING if state is State.STOPPED else state
        status.MergeFrom(student_pb2.StudentStatus(state=f"SERVICE_STATE_{name.name}"))
        return status


def _misplaced(is_header: bool) -> InvalidArgument:
    what = "a second header" if is_header else "a micro-batch before the header"
    return InvalidArgument(f"{what}: a step is one header, then its micro-batches", field="part", value=what)


def engine_spec(settings: StudentSettings) -> EngineSpec:
    """The engine of a configuration: NAME=FOLDER, or a folder alone, which gives the name."""
    if settings.model is None:
        raise ConfigurationError(
            "the student service has no model", field="model", value="unset",
            hint="give NAME=FOLDER as --model of the service, PRECEPTOR_STUDENT_MODEL, or student.model in a file",
        )  # fmt: skip
    name, separator, folder = settings.model.rpartition("=")
    base = Path(folder).resolve()
    options = {
        "base": str(base),
        "runs_root": str(Path(settings.runs_root).resolve()),
        "model_name": name if separator else base.name,
        "device": settings.device,
        "threads": settings.threads,
        "keep_checkpoints": settings.keep_checkpoints,
        "keep_versions": settings.keep_versions,
        "max_open_runs": settings.max_open_runs,
        "teacher_heads": [str(Path(folder).resolve()) for folder in (settings.teacher_heads or "").split(os.pathsep) if folder],
        "teacher_heads_bytes": settings.teacher_heads_bytes,
    }
    return EngineSpec(options["model_name"], ENGINE, options)
