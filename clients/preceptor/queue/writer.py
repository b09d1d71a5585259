"""The writer's side of a response log: append, poke, and make good whatever the log has lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from preceptor.errors import Gap
from preceptor.queue.keys import Flow, LogName
from preceptor.queue.protocol import ResponseLogs, Tasks
from preceptor.queue.types import ENDED, Appended
from preceptor_proto.v1 import common_pb2, rollout_pb2

SCHEMA = 1


class LogsAndTasks(ResponseLogs, Tasks, Protocol):
    """What a writer needs of a queue."""


@dataclass(slots=True)
class LogWriter:
    """Writes one attempt's log. It keeps the entries until the rollout ends, so a log that was lost is written again."""

    queue: LogsAndTasks
    log: LogName
    entries: list[rollout_pb2.LogEntry] = field(default_factory=list[rollout_pb2.LogEntry])
    length: int = 0

    async def append(
        self,
        segment: common_pb2.Segment,
        behaviour: common_pb2.Behaviour | None = None,
        candidates: common_pb2.CandidateIds | None = None,
    ) -> int:
        """The log's length once these tokens are in it and every task on it was poked."""
        entry = rollout_pb2.LogEntry(
            schema=SCHEMA, offset=self.length, segment=segment, behaviour=behaviour, candidates=candidates
        )
        await self._write(entry)
        self.length += _tokens(entry)
        return self.length

    async def close(self, finish_reason: common_pb2.FinishReason) -> None:
        """No more tokens come. Closing again for the same reason changes nothing."""
        close = rollout_pb2.LogClose(finish_reason=finish_reason)
        await self._write(rollout_pb2.LogEntry(schema=SCHEMA, offset=self.length, close=close))

    async def _write(self, entry: rollout_pb2.LogEntry) -> None:
        try:
            appended = await self.queue.append(self.log, entry)
        except Gap as gap:
            appended = await self._write_again(int(gap.limit), entry)
        self.entries.append(entry)
        await poke_subscribers(self.queue, self.log, appended)

    async def _write_again(self, length: int, newest: rollout_pb2.LogEntry) -> Appended:
        """The log forgot its end. It only ever holds whole entries of this writer, so its length is a boundary of ours."""
        for entry in self.entries:
            if entry.offset >= length:
                await self.queue.append(self.log, entry)
        return await self.queue.append(self.log, newest)


async def poke_subscribers(queue: LogsAndTasks, log: LogName, appended: Appended) -> None:
    """Poke every task on the log. Ended ones are taken off it; unknown ones stay: they may be about to be created."""
    for subscriber in appended.subscribers:
        info = await queue.poke(Flow(subscriber.teacher, log.tenant, log.job), subscriber.task_id)
        if info is not None and info.state in ENDED:
            await queue.unsubscribe(log, subscriber)


def _tokens(entry: rollout_pb2.LogEntry) -> int:
    segment = entry.segment
    return len(segment.response.u32le or segment.context.u32le) // 4
