"""One `Generate` call: units wait for their turn, chunks go from the engine to the response logs, rollouts to the caller.

A rollout fails alone where its log does; all open rollouts of a unit fail where the engine does. A caller who leaves takes his
units with him: the engine stops between two tokens.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from preceptor.errors import Internal, PreceptorError, VersionGone
from preceptor.queue import LogName, LogWriter
from preceptor.queue.writer import LogsAndTasks
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import chunks
from preceptor_rollout.advisor import Advisor, Asking
from preceptor_rollout.calls import GENERATE
from preceptor_rollout.chunks import Chunk
from preceptor_rollout.environments.answers import Answers
from preceptor_rollout.environments.player import Players
from preceptor_rollout.episodes import Episode
from preceptor_rollout.gate import Gate, Turn
from preceptor_rollout.outcomes import OpenRollout, end_all
from preceptor_rollout.units import Unit, UnitSize, cut_into_units, most_tokens, prompt_tokens, rollouts_of, with_prompts
from preceptor_rollout.versions import Version, Versions
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.frame.call import Call
from preceptor_serving.scheduler.types import FlowKey, Task, Work

Reply = rollout_pb2.GenerateReply
Request = rollout_pb2.GenerateRequest


@dataclass(frozen=True, slots=True)
class Sources:
    """Whose tokens a unit has, in all its turns: one version of the student, and the teacher of its policy."""

    version: Version
    asking: Asking | None


class Relay:
    """Answers checked requests."""

    def __init__(
        self,
        engine: EngineChannel,
        versions: Versions,
        gate: Gate,
        queue: LogsAndTasks | None,
        advisor: Advisor,
        size: UnitSize,
        players: Players,
    ) -> None:
        self._engine, self._versions, self._gate, self._queue = engine, versions, gate, queue
        self._advisor, self._players = advisor, players
        self._size = size
        self._numbers = itertools.count()

    async def replies(self, request: Request, call: Call, flow: FlowKey) -> AsyncGenerator[Reply]:
        """One reply for every rollout, in the order in which they end."""
        self._versions.of(request.run, _min_step(request))  # the whole request is refused; a unit asks again at its turn
        units = cut_into_units(request, self._size)
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
        rollouts, asking = list(self._open(unit, call, flow)), self._advisor.asking(unit, flow.job)
        try:
            await turn.granted
            version = self._versions.of(unit.run, _min_step(unit))
            sources = Sources(version, asking)
            async for reply in self._drawn(unit, sources, rollouts, turn, call):
                tell(reply)
            if episodes := [one for one in rollouts if isinstance(one, Episode)]:
                await self._play(unit, sources, episodes, turn, call, tell)
            end_all(rollouts, Internal("the engine ended without ending this rollout"), tell)
        except PreceptorError as error:
            end_all(rollouts, error, tell)
        finally:
            self._gate.leave(turn)

    async def _drawn(
        self, unit: Request, sources: Sources, rollouts: Sequence[OpenRollout], turn: Turn, call: Call
    ) -> AsyncGenerator[Reply]:
        """One turn of every rollout of a unit; the replies of those that end with it."""
        turn.tokens += sum(prompt_tokens(prompt) for prompt in unit.prompts)
        async with aclosing(self._chunks(unit, sources, call)) as lists:
            async for due in lists:
                turn.tokens += sum(len(chunks.response_of(chunk).response.u32le) // 4 for chunk in due)
                for reply in await _taken(due, rollouts):
                    yield reply

    async def _play(
        self, unit: Request, sources: Sources, episodes: list[Episode], turn: Turn, call: Call, tell: Callable[[Reply], None]
    ) -> None:
        """Further turns, of whoever has been answered. While nobody has, the unit holds no place before the engine."""
        answers = Answers()
        answers.ask(episodes)
        try:
            while answers:
                self._gate.step_aside(turn)
                going_on = _going_on(await answers.some(), tell)
                if not going_on:
                    continue
                await self._gate.come_back(turn, call.remaining_s())
                going_on += _going_on(answers.there(), tell)
                asked = with_prompts(unit, [one.next_prompt for one in going_on if one.next_prompt is not None])
                for part in cut_into_units(asked, self._size):
                    async for reply in self._drawn(part, sources, going_on, turn, call):
                        tell(reply)
                answers.ask(going_on)
        finally:
            await answers.leave()

    def _open(self, unit: Request, call: Call, flow: FlowKey) -> Iterable[OpenRollout]:
        prompts = [prompt for prompt in unit.prompts for _ in range(prompt.samples)]
        player = self._players.of(unit)
        for rollout, prompt in zip(rollouts_of(unit), prompts, strict=True):
            writer = None
            if unit.write_logs and self._queue is not None:
                writer = LogWriter(self._queue, LogName.of(flow.tenant, flow.job, rollout))
            if player is None:
                yield OpenRollout(rollout, prompt, writer)
            else:
                yield Episode(rollout, prompt, writer, player=player, eos_ids=self._players.eos_ids, left_s=call.remaining_s)

    async def _chunks(self, request: Request, sources: Sources, call: Call) -> AsyncGenerator[list[Chunk]]:
        """Lists of chunks as the engine sends them. A version that it let go of is loaded again, once."""
        unit = Unit(sources.version.ref, request)
        for last_try in (False, True):
            try:
                if sources.asking is None:
                    stream = self._engine.stream(GENERATE, unit.to_bytes(), timeout_s=call.remaining_s())
                else:
                    stream = self._advisor.chunks(unit, sources.asking, call)
                async with aclosing(stream) as replies:
                    async for reply in replies:
                        if reply:
                            yield list(chunks.from_bytes(reply))
                return
            except VersionGone:
                if last_try:
                    raise
                await self._versions.load(sources.version)


async def _tell_the_end(tasks: set[asyncio.Task[None]], tell: Callable[[BaseException | None], None]) -> None:
    """None after the last unit, or the first defect: what no rollout could be blamed for."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    tell(next((error for task in done if (error := task.exception())), None))


def _going_on(answered: Iterable[tuple[Episode, Reply | None]], tell: Callable[[Reply], None]) -> list[Episode]:
    """The episodes that have another turn; the others are told."""
    going_on: list[Episode] = []
    for episode, reply in answered:
        if reply is not None:
            tell(reply)
        elif episode.next_prompt is not None:
            going_on.append(episode)
    return going_on


async def _taken(due: list[Chunk], rollouts: Sequence[OpenRollout]) -> list[Reply]:
    """Logs all chunks at once; the replies of rollouts that ended with them, in order."""
    by_name = {(one.rollout.prompt, one.rollout.sample): one for one in rollouts}
    taken = await asyncio.gather(*(by_name[chunk.id.prompt, chunk.id.sample].take(chunk) for chunk in due))
    return [reply for reply in taken if reply is not None]


def _min_step(request: Request) -> int | None:
    return request.min_weight_step if request.HasField("min_weight_step") else None
