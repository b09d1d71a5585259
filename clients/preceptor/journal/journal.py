"""An append-only journal on local disk: what `append` returned is there after any crash.

Records live in segment files (`segment.py`). Only the last one can end in half a record, which opening cuts off and reports;
damage anywhere else is `Corrupt` with file and offset. A full disk refuses the append and leaves the journal as it was.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from preceptor.errors import Exhausted, PreceptorError, Unavailable
from preceptor.journal.disk import Disk, is_full
from preceptor.journal.frame import Entry, Record, encode
from preceptor.journal.lock import WriterLock
from preceptor.journal.segment import (
    HEADER_BYTES,
    UNFINISHED_SUFFIX,
    SegmentFile,
    Tail,
    corrupt,
    encode_header,
    listed,
    scan,
)

SEGMENT_BYTES = 64 << 20
COMPACTION_POINTS = ("file written", "file durable", "base in place", "old files removed")
"""Where a compaction can be stopped by a test: `Disk.reached` is called with each, in this order."""


@dataclass(frozen=True, slots=True)
class TornTail:
    """Half a record that opening cut off: its write had never been acknowledged."""

    file: Path
    offset: int
    cut_bytes: int


class Journal:
    """The one writer of a journal. Not for several threads at once; `GroupCommit` shares it between coroutines."""

    def __init__(self, folder: Path, name: str, *, segment_bytes: int = SEGMENT_BYTES, disk: Disk | None = None) -> None:
        """Open the journal `name` in `folder`, made if it is not there. `Conflict` while another process writes it."""
        self._folder, self._name = folder, name
        self._segment_bytes = segment_bytes
        self._disk = disk or Disk()
        self._broken = ""
        self._descriptor = -1
        self._files: list[SegmentFile] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._disk.sync_folder(folder.parent)
        self._lock = WriterLock(folder)
        try:
            self.torn_tail = self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def next_sequence(self) -> int:
        """The number that the next record will get; 1 in a new journal."""
        return self._next

    @property
    def stored_bytes(self) -> int:
        """Size on disk."""
        return sum(file.path.stat().st_size for file in self._files)

    def append(self, *entries: Entry) -> int:
        """The number of the last entry, once all of them are on the device: one write, one fsync, all or none accepted."""
        self._check_open()
        frames = [encode(entry, self._next + index) for index, entry in enumerate(entries)]
        data = b"".join(frames)
        if self._end > HEADER_BYTES and self._end + len(data) > self._segment_bytes:
            self._rotate()
        self._write_durably(data)
        self._end += len(data)
        self._next += len(entries)
        return self._next - 1

    def records(self, after: int = 0) -> Iterator[Record]:
        """All records with a higher number than `after`, in order, as they are now on disk. Not across a compaction."""
        files, end = list(self._files), self._next
        for index, file in enumerate(files):
            following = files[index + 1].first if index + 1 < len(files) else end
            if following <= after + 1:
                continue
            for record in self._records_of(file, following, is_last=file is files[-1]):
                if after < record.sequence < end:
                    yield record

    def compact(self, state: Iterable[Entry]) -> None:
        """Replace everything by `state`. A crash at any moment leaves either all that was there or exactly the state."""
        self._check_open()
        old_files, old_descriptor = self._files, self._descriptor
        base = SegmentFile.named(self._folder, self._next, is_base=True)
        unfinished = base.path.with_name(base.path.name + UNFINISHED_SUFFIX)
        frames = [encode(entry, base.first + index) for index, entry in enumerate(state)]
        data = encode_header(self._name, base.first, len(frames)) + b"".join(frames)
        descriptor = self._new_file(unfinished, data)
        try:
            self._disk.rename(unfinished, base.path)
            self._disk.sync_folder(self._folder)
        except BaseException:
            # Whether the new name survives a crash is unknown: only opening again can tell which of the two it is.
            self._broken = "a compaction was interrupted"
            self._disk.close(descriptor)
            raise
        self._files, self._descriptor = [base], descriptor
        self._end, self._next = len(data), base.first + len(frames)
        self._disk.close(old_descriptor)
        self._disk.reached("base in place")
        self._remove(file for file in old_files if file.path != base.path)
        self._disk.reached("old files removed")

    def close(self) -> None:
        """Let another writer in. Everything acknowledged is on disk already."""
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)
            self._descriptor = -1
        self._broken = self._broken or "it was closed"
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ opening

    def _recover(self) -> TornTail | None:
        for leftover in self._folder.glob(f"*{UNFINISHED_SUFFIX}"):
            self._disk.remove(leftover)
        found = listed(self._folder)
        newest_base = max((index for index, file in enumerate(found) if file.is_base), default=0)
        self._remove(found[:newest_base])
        self._files = found[newest_base:]
        if not self._files:
            self._start_file(SegmentFile.named(self._folder, 1))
            return None
        return self._open_last(self._files[-1])

    def _open_last(self, file: SegmentFile) -> TornTail | None:
        data = file.path.read_bytes()
        tail = _drain(scan(data, file, self._name))
        self._descriptor = self._disk.open(file.path)
        self._end, self._next = tail.end, tail.next_sequence
        if not tail.torn:
            return None
        self._disk.truncate(self._descriptor, tail.end)
        if tail.end == 0:  # the file itself was just being started
            self._disk.write(self._descriptor, encode_header(self._name, file.first), 0)
            self._end = HEADER_BYTES
        self._disk.sync(self._descriptor)
        self._disk.sync_folder(self._folder)
        return TornTail(file.path, tail.end, len(data) - tail.end)

    def _records_of(self, file: SegmentFile, following: int, *, is_last: bool) -> Generator[Record, None, None]:
        tail = yield from scan(file.path.read_bytes(), file, self._name)
        if not is_last and (tail.torn or tail.next_sequence != following):
            raise corrupt(file, tail.end, f"it ends before record {tail.next_sequence}, the next file starts with {following}")

    # ------------------------------------------------------------ writing

    def _write_durably(self, data: bytes) -> None:
        try:
            self._disk.write(self._descriptor, data, self._end)
        except OSError as error:
            self._cut_back()
            raise self._refused(error) from error
        except BaseException:
            self._broken = "a write was interrupted"
            raise
        try:
            self._disk.sync(self._descriptor)
        except BaseException as error:
            # After a failed fsync the kernel may call the lost pages clean: nothing written from here on could be trusted.
            self._broken = f"fsync failed: {error}"
            self._cut_back()
            if isinstance(error, OSError):
                raise self._refused(error) from error
            raise

    def _cut_back(self) -> None:
        try:
            self._disk.truncate(self._descriptor, self._end)
        except OSError as error:
            self._broken = f"half a record could not be cut off: {error}"

    def _rotate(self) -> None:
        old = self._descriptor
        self._start_file(SegmentFile.named(self._folder, self._next))
        self._disk.close(old)

    def _start_file(self, file: SegmentFile) -> None:
        header = encode_header(self._name, file.first)
        descriptor = self._new_file(file.path, header)
        try:
            self._disk.sync_folder(self._folder)
        except OSError as error:
            self._discard(descriptor, file.path)
            raise self._refused(error) from error
        self._descriptor, self._end, self._next = descriptor, len(header), file.first
        self._files = [*self._files, file]

    def _new_file(self, path: Path, data: bytes) -> int:
        """A durable file of these bytes (its name is not durable yet); nothing is left of it when the disk refuses."""
        descriptor = -1
        try:
            descriptor = self._disk.create(path)
            self._disk.write(descriptor, data, 0)
            self._disk.reached("file written")
            self._disk.sync(descriptor)
            self._disk.reached("file durable")
        except OSError as error:
            self._discard(descriptor, path)
            raise self._refused(error) from error
        return descriptor

    def _discard(self, descriptor: int, path: Path) -> None:
        """Undo the start of a file: left in place it would claim numbers that the file before it goes on to use."""
        if descriptor >= 0:
            self._disk.close(descriptor)
        try:
            self._disk.remove(path)
        except OSError as error:
            self._broken = f"{path.name} could not be removed: {error}"

    def _remove(self, files: Iterable[SegmentFile]) -> None:
        try:
            for file in files:
                self._disk.remove(file.path)
        except OSError as error:
            raise self._refused(error) from error

    def _check_open(self) -> None:
        if self._broken:
            raise Unavailable(
                f"the journal {self._folder} takes no more records: {self._broken}",
                field="journal",
                value=str(self._folder),
                hint="open it again: everything that was acknowledged is in it",
            )

    def _refused(self, error: OSError) -> PreceptorError:
        if is_full(error):
            return Exhausted(
                f"no space for the journal {self._folder}: nothing of this record was kept",
                field="journal",
                value=error.strerror or "",
                hint="free space on this disk and append again; the journal is intact",
            )
        return Unavailable(
            f"the journal {self._folder} cannot be written: {error.strerror}",
            field="journal",
            value=str(self._folder),
            hint="check the disk, then open the journal again",
        )


def _drain(records: Generator[Record, None, Tail]) -> Tail:
    while True:
        try:
            next(records)
        except StopIteration as end:
            return end.value
