"""The journal of one training run: typed records in, the state they add up to out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from preceptor.errors import Corrupt, PreceptorError, Unavailable
from preceptor.journal.disk import Disk
from preceptor.journal.group import GroupCommit
from preceptor.journal.journal import SEGMENT_BYTES, Journal, TornTail
from preceptor.journal.records import JournalRecord, from_record, to_entry
from preceptor.journal.state import LearnerState, records_of


class LearnerJournal:
    """Opened by the one learner of a run. What `write` returned is on the device and part of `state`."""

    def __init__(self, journal: Journal, state: LearnerState) -> None:
        self._journal = journal
        self._group = GroupCommit(journal)
        self._failure = ""
        self.state = state

    @classmethod
    async def open(
        cls, folder: Path, run: str, *, segment_bytes: int = SEGMENT_BYTES, disk: Disk | None = None
    ) -> LearnerJournal:
        """The journal of `run`, replayed. `Conflict` while another learner holds it, `Corrupt` where it is damaged."""
        return await asyncio.to_thread(cls._open, folder, run, segment_bytes, disk)

    @classmethod
    def _open(cls, folder: Path, run: str, segment_bytes: int, disk: Disk | None) -> LearnerJournal:
        journal = Journal(folder, run, segment_bytes=segment_bytes, disk=disk)
        try:
            return cls(journal, _replayed(journal, run))
        except BaseException:
            journal.close()
            raise

    @property
    def torn_tail(self) -> TornTail | None:
        """Half a record that opening cut off: the learner died while writing it."""
        return self._journal.torn_tail

    async def write(self, *records: JournalRecord) -> None:
        """Returns when all of these are on the device. Coroutines that write at the same time share one fsync.

        A record that contradicts the state is refused and not written; the ones before it in the same call are. `state`
        shows a record while it is on its way, so act on the outside (delete, send, cancel) only after `write` returned.
        """
        self._check_usable()
        refusal: PreceptorError | None = None
        entries = [to_entry(record) for record in records]
        for index, record in enumerate(records):
            try:
                self.state.apply(record)
            except PreceptorError as error:
                refusal, entries = error, entries[:index]
                break
        if entries:
            try:
                await self._group.append(*entries)
            except Exception as error:
                self._failure = str(error)  # the state is ahead of the disk from here on
                raise
        if refusal is not None:
            raise refusal

    async def compact(self) -> None:
        """Keep the state and drop the history: what a durable step holds takes no more space."""
        self._check_usable()
        await self._group.compact(lambda: (to_entry(record) for record in records_of(self.state)))

    @property
    def stored_bytes(self) -> int:
        """Size on disk; compact after a step became durable and this has grown."""
        return self._journal.stored_bytes

    async def close(self) -> None:
        """Finish what is being written and let the next learner in."""
        await self._group.drain()
        self._journal.close()

    async def __aenter__(self) -> LearnerJournal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check_usable(self) -> None:
        if self._failure:
            raise Unavailable(
                f"the journal of run {self.state.run} failed before: {self._failure}",
                field="journal",
                value=self.state.run,
                hint="repair the cause, then start the learner again: it goes on from what is on disk",
            )


def _replayed(journal: Journal, run: str) -> LearnerState:
    state = LearnerState(run)
    for record in journal.records():
        typed = from_record(record)
        try:
            state.apply(typed)
        except PreceptorError as error:
            raise Corrupt(
                f"record {record.sequence} of the journal contradicts the ones before it: {error.message}",
                field="journal",
                value=record.sequence,
                hint="the journal was edited or mixed up; restore it from a copy",
            ) from error
    return state
