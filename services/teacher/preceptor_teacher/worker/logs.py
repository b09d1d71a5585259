"""What is known of response logs: each lease reads the growth of its log only."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from preceptor.queue import LogName, LogView, ResponseLogs
from preceptor_proto.v1 import rollout_pb2


@dataclass(frozen=True, slots=True)
class KnownLog:
    entries: tuple[rollout_pb2.LogEntry, ...]
    length: int
    closed: bool


class LogReader:
    """Reads logs and remembers at most `max_tokens` tokens of them, least recently read out first."""

    def __init__(self, logs: ResponseLogs, max_tokens: int) -> None:
        self._logs = logs
        self._max_tokens = max_tokens
        self._known: OrderedDict[LogName, KnownLog] = OrderedDict()
        self._tokens = 0

    async def read(self, log: LogName) -> KnownLog:
        """The log as it stands now."""
        before = self._known.get(log)
        offset = before.length if before else 0
        view = await self._logs.read(log, offset)
        if before is None or view.length < before.length:  # the server lost the log: what is written now is the truth
            view, before = (view if offset == 0 else await self._logs.read(log, 0)), None
        now = _joined(before, view)
        self._remember(log, now)
        return now

    def _remember(self, log: LogName, now: KnownLog) -> None:
        self._forget(log)
        if now.length > self._max_tokens:
            return
        while self._tokens + now.length > self._max_tokens:
            self._forget(next(iter(self._known)))
        self._known[log] = now
        self._tokens += now.length

    def _forget(self, log: LogName) -> None:
        known = self._known.pop(log, None)
        self._tokens -= known.length if known else 0


def _joined(before: KnownLog | None, view: LogView) -> KnownLog:
    if before is None:
        return KnownLog(view.entries, view.length, view.closed)
    fresh = tuple(entry for entry in view.entries if entry.offset >= before.length)
    return KnownLog(before.entries + fresh, view.length, view.closed)
