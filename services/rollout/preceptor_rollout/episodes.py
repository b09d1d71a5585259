"""Rollouts of several turns: the student replies, the environment answers, what it says is context, and the student goes on.

Every turn is a request of its own for the engine: the prompt is everything so far, and `first_row` counts the tokens that were
drawn already, so that draws and the limit of length go on where they stood. Observations enter the response log as context:
nothing is trained on them, and teachers read them where they stand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from preceptor.errors import Internal, PreceptorError
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout import chunks
from preceptor_rollout.environments.player import Player
from preceptor_rollout.outcomes import OpenRollout, Reply

POINTS = ("turn drawn", "environment answered", "answer appended")
"""Named places in the middle of a rollout, each between two effects. Dying at any of them must cost time and nothing else."""


@dataclass(slots=True, kw_only=True)
class Episode(OpenRollout):
    """A rollout of several turns."""

    player: Player
    eos_ids: tuple[int, ...]
    left_s: Callable[[], float]
    segments: list[common_pb2.Segment] = field(default_factory=list[common_pb2.Segment])
    next_prompt: rollout_pb2.GeneratePrompt | None = None  # of the next turn, once the environment has answered
    _read: bytes = b""  # u32le of what the student reads before this turn
    _turn_start: int = 0  # index of the turn's first chunk
    _turns: int = 0
    _is_over: bool = False  # the newest turn
    _state: Any = None
    _reward: float = 0.0

    def __post_init__(self) -> None:
        self._read = self.prompt.context.u32le

    async def turn_over(self) -> Reply | None:
        """The environment answers once the unit's other turns are over too."""
        read = common_pb2.TokenIds(u32le=self._read)
        self.segments += chunks.turn_of(self.chunks[self._turn_start :], read)
        self._turn_start = len(self.chunks)
        self._turns += 1
        self._is_over = True
        self.player.hooks.reached("turn drawn")
        return None

    async def answer(self) -> Reply | None:
        """The reply where the rollout ends here; else `next_prompt` is there."""
        self.next_prompt = None
        if self.told:
            return None
        if not self._is_over:
            return self.failed(Internal("the engine ended without ending this turn"))
        self._is_over = False
        try:
            return await self._answered()
        except PreceptorError as error:
            return self.failed(error)

    async def _answered(self) -> Reply | None:
        last = self.chunks[-1]
        if self._turns == 1:
            self._state = await self.player.start(json.loads(self.prompt.task_json or "{}"), self.left_s())
        answer = await self.player.step(self._state, last.text, self.left_s())
        self.player.hooks.reached("environment answered")
        self._reward += answer.reward
        was_cut = last.finish_reason == common_pb2.FINISH_REASON_LENGTH
        if answer.messages and not was_cut and self._turns < self.player.max_turns:
            last_id = int.from_bytes(self.segments[-1].response.u32le[-4:], "little")
            await self._go_on(await self.player.observation(answer, last_id, self.eos_ids, self.left_s()))
            return None
        is_cut = was_cut or answer.messages
        reply = await self.end(self.segments, common_pb2.FINISH_REASON_LENGTH if is_cut else common_pb2.FINISH_REASON_ENVIRONMENT)
        reply.rollout.reward = self._reward
        return reply

    async def _go_on(self, observation: bytes) -> None:
        if self.writer is not None:
            await self.writer.append(common_pb2.Segment(context=common_pb2.TokenIds(u32le=observation)))
        self.player.hooks.reached("answer appended")
        self._read = observation
        behind = b"".join(segment.context.u32le or segment.response.u32le for segment in self.segments[1:]) + observation
        drawn_tokens = sum(len(segment.response.u32le) for segment in self.segments) // 4
        self.next_prompt = rollout_pb2.GeneratePrompt(
            prompt=self.prompt.prompt,
            context=common_pb2.TokenIds(u32le=self.prompt.context.u32le + behind),
            samples=1,
            first_sample=self.rollout.sample,
            attempt=self.prompt.attempt,
            first_row=self.prompt.first_row + drawn_tokens,
        )
        if self.prompt.HasField("teacher_context"):  # the policy's teacher goes on behind what it has read
            self.next_prompt.teacher_context.u32le = self.prompt.teacher_context.u32le + behind
