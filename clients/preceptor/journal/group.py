"""One journal for many coroutines: whoever writes while an fsync runs shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from preceptor.journal.frame import Entry, check
from preceptor.journal.journal import Journal

MAX_GROUP_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class _Waiting:
    entries: tuple[Entry, ...]
    done: asyncio.Future[int]

    def answer(self, outcome: int | BaseException) -> None:
        if self.done.done():  # its caller was cancelled
            return
        if isinstance(outcome, int):
            self.done.set_result(outcome)
        elif isinstance(outcome, Exception):
            self.done.set_exception(outcome)
        else:
            self.done.cancel()


class GroupCommit:
    """Durable appends from any coroutine of one event loop, in the order in which they were asked for."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def append(self, *entries: Entry) -> int:
        """The number of the last entry, once all of them are on the device. The entries of one call stay together.

        A caller that is cancelled while it waits does not take its entries back: they may already be on their way.
        """
        for entry in entries:
            check(entry)
        waiting = _Waiting(entries, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return await waiting.done

    async def compact(self, state: Callable[[], Iterable[Entry]]) -> None:
        """Replace the journal by `state()`, which must hold the effect of every append asked for so far.

        Appends that were still waiting are thereby done: writing them after the state would apply them twice.
        """
        async with self._turn:
            group, self._waiting = self._waiting, []
            entries = list(state())
            try:
                await asyncio.to_thread(self._journal.compact, entries)
            except BaseException as error:
                _answer_all(group, error)
                raise
            _answer_all(group, self._journal.next_sequence - 1)

    async def drain(self) -> None:
        """Returns when everything asked for before has been answered. Call it before closing the journal."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                async with self._turn:
                    await self._write_group(self._take_group())
        except BaseException as error:
            _answer_all(self._waiting, error)
            self._waiting = []
            raise
        finally:
            self._writer = None

    def _take_group(self) -> list[_Waiting]:
        total_bytes, count = 0, 0
        for waiting in self._waiting:
            total_bytes += sum(len(entry.payload) for entry in waiting.entries)
            if count and total_bytes > MAX_GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _write_group(self, group: list[_Waiting]) -> None:
        entries = [entry for waiting in group for entry in waiting.entries]
        try:
            last = await asyncio.to_thread(self._journal.append, *entries)
        except BaseException as error:
            _answer_all(group, error)
            if not isinstance(error, Exception):
                raise
            return
        sequence = last - len(entries)
        for waiting in group:
            sequence += len(waiting.entries)
            waiting.answer(sequence)


def _answer_all(group: list[_Waiting], outcome: int | BaseException) -> None:
    for waiting in group:
        waiting.answer(outcome)
