"""Client of the student service: open a run, apply steps once each, make them durable, publish weights.

async with AsyncStudentClient("127.0.0.1:50053") as student:
    status = await student.open_run("try", config_json)
    reply = await student.step(header, micro_batches)

Micro-batches stay messages: the batch digest in the header is over their serialised bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import grpc.aio

from preceptor import wire
from preceptor.client.channel import Target
from preceptor.client.connected import Connected
from preceptor.rpc_errors import from_rpc
from preceptor.types import ModelRef
from preceptor_proto.v1 import student_pb2

SERVICE = "preceptor.v1.Student"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where a run stands. `published` is its newest version, None before the first; `device` is where it trains."""

    run: str
    epoch: int
    applied_step: int
    durable_step: int
    applied_batch_sha256: bytes
    published: ModelRef | None
    device: str = ""


class AsyncStudentClient(Connected):
    """Made and used inside one event loop. `target` is an address, or a `Target` with key and deadline."""

    def __init__(self, target: str | Target) -> None:
        super().__init__(target)
        self._status = self.connection.unary(f"{SERVICE}/Status", student_pb2.StudentStatus)
        self._open_run = self.connection.unary(f"{SERVICE}/OpenRun", student_pb2.StudentStatus)
        self._step = self.connection.channel.stream_unary(
            f"/{SERVICE}/Step",
            request_serializer=student_pb2.StepMessage.SerializeToString,
            response_deserializer=student_pb2.StepReply.FromString,
        )
        self._checkpoint = self.connection.unary(f"{SERVICE}/Checkpoint", student_pb2.CheckpointReply)
        self._publish = self.connection.unary(f"{SERVICE}/Publish", student_pb2.PublishReply)
        self._evaluate = self.connection.unary(f"{SERVICE}/Evaluate", student_pb2.EvaluateReply)

    async def status(self, run: str, *, deadline_s: float | None = None) -> RunStatus:
        """Applied and durable step, epoch, newest version."""
        request = student_pb2.StudentStatusRequest(run=run)
        return _read(await self.connection.call(self._status, request, deadline_s=deadline_s))

    async def open_run(
        self,
        run: str,
        config_json: str,
        *,
        restore_step: int | None = None,
        heads: Iterable[bytes] = (),
        deadline_s: float | None = None,
    ) -> RunStatus:
        """Opens the run or takes it over under a new epoch, which fences every older writer; so it is sent only once.

        `heads`: digests of the teachers' heads that the run's steps will need, where they carry hidden states.
        """
        request = student_pb2.OpenRunRequest(run=run, config_json=config_json, restore_step=restore_step, head_sha256=heads)
        reply = await self.connection.call(self._open_run, request, deadline_s=deadline_s, idempotent=False)
        return _read(reply)

    async def step(
        self,
        header: student_pb2.StepHeader,
        micro_batches: Iterable[student_pb2.MicroBatch],
        *,
        deadline_s: float | None = None,
    ) -> student_pb2.StepReply:
        """One optimiser step. Not repeated by itself; sending the same step again is safe and answers from its record."""
        timeout_s = self.connection.target.deadline_s if deadline_s is None else deadline_s
        try:
            return await self._step(step_messages(header, micro_batches), timeout=timeout_s, metadata=self.connection.metadata())
        except grpc.aio.AioRpcError as failure:
            raise from_rpc(failure) from failure

    async def checkpoint(self, run: str, epoch: int, *, deadline_s: float | None = None) -> student_pb2.CheckpointReply:
        """Makes the applied step durable."""
        request = student_pb2.CheckpointRequest(run=run, epoch=epoch)
        return await self.connection.call(self._checkpoint, request, deadline_s=deadline_s)

    async def publish(self, run: str, epoch: int, *, deadline_s: float | None = None) -> ModelRef:
        """Writes the current weights as an immutable version; its name."""
        request = student_pb2.PublishRequest(run=run, epoch=epoch)
        reply = await self.connection.call(self._publish, request, deadline_s=deadline_s)
        return wire.model_ref_from_proto(reply.model)

    async def evaluate(
        self,
        run: str,
        objective: student_pb2.ObjectiveSpec,
        batch: student_pb2.MicroBatch,
        *,
        deadline_s: float | None = None,
    ) -> student_pb2.EvaluateReply:
        """The loss of a batch under the run's current weights; nothing changes."""
        request = student_pb2.EvaluateRequest(run=run, objective=objective, batch=batch)
        return await self.connection.call(self._evaluate, request, deadline_s=deadline_s)


def step_messages(
    header: student_pb2.StepHeader, micro_batches: Iterable[student_pb2.MicroBatch]
) -> Iterator[student_pb2.StepMessage]:
    """The stream of one step: its header, then its micro-batches."""
    yield student_pb2.StepMessage(header=header)
    for micro_batch in micro_batches:
        yield student_pb2.StepMessage(micro_batch=micro_batch)


def _read(status: student_pb2.StudentStatus) -> RunStatus:
    return RunStatus(
        run=status.run,
        epoch=status.epoch,
        applied_step=status.applied_step,
        durable_step=status.durable_step,
        applied_batch_sha256=status.applied_batch_sha256,
        published=wire.model_ref_from_proto(status.published) if status.HasField("published") else None,
        device=status.device,
    )
