"""One `Generate` call: units wait for their turn, chunks go from the engine to the response logs, rollouts to the caller.

A rollout fails alone where its log does; all open rollouts of a unit fail where the engine does. A caller who leaves takes his
units with him: the engine stops between two tokens.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from preceptor import wire
from preceptor.error_details import detail_of
from preceptor.errors import Internal, PreceptorError, VersionGone
from preceptor.queue import LogName, LogWriter
from preceptor.queue.writer import LogsAndTasks
from preceptor.types import RolloutId
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout import chunks
from preceptor_rollout.advisor import Advisor, teacher_in_loop
from preceptor_rollout.calls import GENERATE
from preceptor_rollout.chunks import Chunk
from preceptor_rollout.gate import Gate, Turn
from preceptor_rollout.units import Unit, cut_into_units, most_tokens, prompt_tokens, rollouts_of
from preceptor_rollout.versions import Version, Versions
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.frame.call import Call
from preceptor_serving.scheduler.types import FlowKey, Task, Work

Reply = rollout_pb2.GenerateReply
Request = rollout_pb2.GenerateRequest


@dataclass(slots=True)
class OpenRollout:
    """What is known of one rollout until it is told."""

    rollout: RolloutId
    context: common_pb2.TokenIds
    writer: LogWriter | None
    chunks: list[Chunk] = field(default_factory=list)
    told: bool = False

    async def take(self, chunk: Chunk) -> Reply | None:
        """The reply that ends the rollout, if this chunk does."""
        if self.told:
            return None
        self.chunks.append(chunk)
        try:
            if self.writer is not None:
                await _log(self.writer, chunk)
        except PreceptorError as error:
            return self.failed(error)
        if not chunks.is_last(chunk):
            return None
        self.told = True
        return Reply(rollout=chunks.joined(self.chunks, self.context))

    def failed(self, error: PreceptorError) -> Reply:
        """The reply that says why there is no rollout."""
        self.told = True
        failure = rollout_pb2.RolloutFailure(id=wire.rollout_id_to_proto(self.rollout), error=detail_of(error))
        return Reply(failure=failure)


async def _log(writer: LogWriter, chunk: Chunk) -> None:
    candidates = chunk.student_topk if chunk.HasField("student_topk") else None
    await writer.append(chunks.response_of(chunk), chunk.behaviour, candidates)
    if chunks.is_last(chunk):
        await writer.close(chunk.finish_reason)


class Relay:
    """Answers checked requests."""

    def __init__(
        self,
        engine: EngineChannel,
        versions: Versions,
        gate: Gate,
        queue: LogsAndTasks | None,
        advisor: Advisor,
        batch_tokens: int,
    ) -> None:
        self._engine, self._versions, self._gate, self._queue = engine, versions, gate, queue
        self._advisor = advisor
        self._batch_tokens = batch_tokens
        self._numbers = itertools.count()

    async def replies(self, request: Request, call: Call, flow: FlowKey) -> AsyncGenerator[Reply]:
        """One reply for every rollout, in the order in which they end."""
        self._versions.of(request.run, _min_step(request))  # the whole request is refused; a unit asks again at its turn
        units = cut_into_units(request, self._batch_tokens)
        turns = self._gate.enter([self._task(unit, call, flow) for unit in units])
        told: asyncio.Queue[Reply | BaseException | None] = asyncio.Queue()
        tasks = {
            asyncio.create_task(self._run(unit, turn, call, flow, told.put_nowait), name="unit")
            for unit, turn in zip(units, turns, strict=True)
        }
        ending = asyncio.create_task(_tell_the_end(tasks, told.put_nowait), name="units-end")
        try:
            while (reply := await told.get()) is not None:
                if isinstance(reply, BaseException):
                    raise reply
                yield reply
        finally:
            for task in (ending, *tasks):
                task.cancel()
            await asyncio.wait({ending, *tasks})
            for turn in turns:
                self._gate.leave(turn)

    def _task(self, unit: Request, call: Call, flow: FlowKey) -> Task:
        return Task(f"unit-{next(self._numbers)}", flow, Work(most_tokens(unit), 0), call.identity.terms.weight, call.deadline)

    async def _run(self, unit: Request, turn: Turn, call: Call, flow: FlowKey, tell: Callable[[Reply], None]) -> None:
        rollouts = list(self._open(unit, flow))
        try:
            await turn.granted
            version = self._versions.of(unit.run, _min_step(unit))
            turn.tokens = sum(prompt_tokens(prompt) for prompt in unit.prompts)
            async with aclosing(self._chunks(Unit(version.ref, unit), version, flow.job, call)) as lists:
                async for due in lists:
                    turn.tokens += sum(len(chunks.response_of(chunk).response.u32le) // 4 for chunk in due)
                    for reply in await _taken(due, rollouts):
                        tell(reply)
            _end(rollouts, Internal("the engine ended without ending this rollout"), tell)
        except PreceptorError as error:
            _end(rollouts, error, tell)
        finally:
            self._gate.leave(turn)

    def _open(self, unit: Request, flow: FlowKey) -> Iterable[OpenRollout]:
        contexts = [prompt.context for prompt in unit.prompts for _ in range(prompt.samples)]
        for rollout, context in zip(rollouts_of(unit), contexts, strict=True):
            writer = None
            if unit.write_logs and self._queue is not None:
                writer = LogWriter(self._queue, LogName.of(flow.tenant, flow.job, rollout))
            yield OpenRollout(rollout, context, writer)

    async def _chunks(self, unit: Unit, version: Version, job: str, call: Call) -> AsyncGenerator[list[Chunk]]:
        """Lists of chunks as the engine sends them. A version that it let go of is loaded again, once."""
        behaviour = teacher_in_loop(unit.request)
        for last_try in (False, True):
            try:
                if behaviour is None:
                    stream = self._engine.stream(GENERATE, unit.to_bytes(), timeout_s=call.remaining_s())
                else:
                    stream = self._advisor.chunks(unit, behaviour, job, call)
                async with aclosing(stream) as replies:
                    async for reply in replies:
                        if reply:
                            yield list(chunks.from_bytes(reply))
                return
            except VersionGone:
                if last_try:
                    raise
                await self._versions.load(version)


def _end(rollouts: Iterable[OpenRollout], error: PreceptorError, tell: Callable[[Reply], None]) -> None:
    """Every rollout has exactly one outcome."""
    for rollout in rollouts:
        if not rollout.told:
            tell(rollout.failed(error))


async def _tell_the_end(tasks: set[asyncio.Task[None]], tell: Callable[[BaseException | None], None]) -> None:
    """None after the last unit, or the first defect: what no rollout could be blamed for."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    tell(next((error for task in done if (error := task.exception())), None))


async def _taken(due: list[Chunk], rollouts: list[OpenRollout]) -> list[Reply]:
    """Logs all chunks at once; the replies of rollouts that ended with them, in order."""
    by_name = {(one.rollout.prompt, one.rollout.sample): one for one in rollouts}
    taken = await asyncio.gather(*(by_name[chunk.id.prompt, chunk.id.sample].take(chunk) for chunk in due))
    return [reply for reply in taken if reply is not None]


def _min_step(request: Request) -> int | None:
    return request.min_weight_step if request.HasField("min_weight_step") else None
