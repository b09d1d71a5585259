"""What is known of one rollout until it is told: chunks go to its log, and every rollout has exactly one outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from preceptor import wire
from preceptor.error_details import detail_of
from preceptor.errors import PreceptorError
from preceptor.queue import LogWriter
from preceptor.types import RolloutId
from preceptor_proto.v1 import common_pb2, rollout_pb2
from preceptor_rollout import chunks
from preceptor_rollout.chunks import Chunk

Reply = rollout_pb2.GenerateReply


@dataclass(slots=True)
class OpenRollout:
    """A rollout of one turn."""

    rollout: RolloutId
    prompt: rollout_pb2.GeneratePrompt
    writer: LogWriter | None
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    told: bool = False

    async def take(self, chunk: Chunk) -> Reply | None:
        """The reply that ends the rollout, if this chunk does."""
        if self.told:
            return None
        self.chunks.append(chunk)
        try:
            if self.writer is not None:
                candidates = chunk.student_topk if chunk.HasField("student_topk") else None
                await self.writer.append(chunks.response_of(chunk), chunk.behaviour, candidates)
            return await self.turn_over() if chunks.is_last(chunk) else None
        except PreceptorError as error:
            return self.failed(error)

    async def turn_over(self) -> Reply | None:
        """What follows the last chunk of a turn."""
        return await self.end(chunks.turn_of(self.chunks, self.prompt.context), self.chunks[-1].finish_reason)

    async def end(self, segments: Sequence[common_pb2.Segment], reason: common_pb2.FinishReason) -> Reply:
        """Closes the log; the reply that holds the whole rollout."""
        if self.writer is not None:
            await self.writer.close(reason)
        self.told = True
        whole = chunks.joined(self.chunks, segments)
        whole.finish_reason = reason
        return Reply(rollout=whole)

    def failed(self, error: PreceptorError) -> Reply:
        """The reply that says why there is no rollout."""
        self.told = True
        failure = rollout_pb2.RolloutFailure(id=wire.rollout_id_to_proto(self.rollout), error=detail_of(error))
        return Reply(failure=failure)


def end_all(rollouts: Iterable[OpenRollout], error: PreceptorError, tell: Callable[[Reply], None]) -> None:
    """Those without an outcome have failed."""
    for rollout in rollouts:
        if not rollout.told:
            tell(rollout.failed(error))
