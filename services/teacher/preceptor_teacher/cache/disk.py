"""The tier on disk: one lmdb file under a bound, shared by the processes of one machine.

Data is synced at every commit and the page that names it is not (`metasync=False`): a death of the process loses nothing that
was committed, a power cut may lose the last commits, and neither leaves a file that cannot be read. Every entry carries a digest
of its key and value; one that does not match is no entry.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor.logs import get_logger
from preceptor_teacher.cache.environment import Opened, open_environment
from preceptor_teacher.cache.eviction import Clock, footprint

USED_SHARE = 0.75  # of the file; the rest is what copy-on-write and fragments take
LARGEST_SHARE = 1 / 16  # of what may be used, for one entry and for one transaction
EVICT_MORE_SHARE = 0.05  # where the file is full before its account is
TRIES = 6
DIGEST_BYTES = 16
FORMAT = b"preceptor score 1\n"
MAX_MARKS = 1 << 16

log = get_logger("preceptor.cache")


@dataclass(slots=True)
class DiskCounts:
    """What happened since the start of this process."""

    evictions: int = 0
    corrupt: int = 0
    dropped: int = 0  # entries that were not written: too large, or no room could be made


class DiskTier:
    """Every call may be made from any thread. Nothing that the disk does is raised: it is a miss, counted, told by `trouble`."""

    def __init__(self, opened: Opened, disk_bytes: int) -> None:
        self._env, self._tables, self._opened = opened.env, opened.tables, opened
        self._limit_bytes = int(disk_bytes * USED_SHARE)
        self._read: set[bytes] = set()  # since the last write
        self._rotten: set[bytes] = set()
        self._lock = threading.Lock()
        self.counts = DiskCounts(corrupt=opened.corrupt)
        self.used_bytes = 0
        self._troubles: dict[str, str] = {}  # reading or writing -> why; either may fail while the other works

    @classmethod
    def open(cls, folder: Path, disk_bytes: int) -> DiskTier:
        """The tier of a folder; `ConfigurationError` where it cannot be used."""
        tier = cls(open_environment(folder, disk_bytes), disk_bytes)
        tier._guarded("reading", tier._account)
        return tier

    @property
    def trouble(self) -> str | None:
        """What failed when it was last tried."""
        return "; ".join(f"the score cache's disk, {what}: {why}" for what, why in sorted(self._troubles.items())) or None

    def close(self) -> None:
        self._opened.close()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values that are there."""
        found: dict[bytes, bytes] = {}
        self._guarded("reading", lambda: self._get_many(keys, found))
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Writes what is not there yet, and makes room for it."""
        waiting = [(key, value) for key, value in entries.items() if self._fits(value)]
        while waiting:
            batch = self._next_batch(waiting)
            if not self._guarded("writing", lambda batch=batch: self._put(batch)):
                self.counts.dropped += len(batch)
            del waiting[: len(batch)]

    # ---- reading

    def _get_many(self, keys: Iterable[bytes], found: dict[bytes, bytes]) -> None:
        with self._env.begin(buffers=True) as txn:
            for key in keys:
                sealed = txn.get(key, db=self._tables.entries)
                if sealed is None:
                    continue
                value = unsealed(key, sealed)
                if value is None:
                    self.counts.corrupt += 1
                    self._remember(self._rotten, key)
                else:
                    found[key] = value
                    self._remember(self._read, key)

    def _remember(self, keys: set[bytes], key: bytes) -> None:
        with self._lock:
            if len(keys) < MAX_MARKS:
                keys.add(key)

    def _taken(self, keys: set[bytes]) -> set[bytes]:
        with self._lock:
            taken = set(keys)
            keys.clear()
            return taken

    # ---- writing

    def _fits(self, value: bytes) -> bool:
        fits = footprint(len(value) + DIGEST_BYTES) <= self._limit_bytes * LARGEST_SHARE
        self.counts.dropped += not fits
        return fits

    def _next_batch(self, waiting: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        batch: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in waiting:
            size += footprint(len(value) + DIGEST_BYTES)
            if batch and size > self._limit_bytes * LARGEST_SHARE:
                break
            batch.append((key, value))
        return batch

    def _put(self, batch: list[tuple[bytes, bytes]]) -> None:
        read, rotten = self._taken(self._read), self._taken(self._rotten)
        limit_bytes = self._limit_bytes
        for left in reversed(range(TRIES)):
            try:
                self._write(batch, read, rotten, limit_bytes)
            except self._opened.full:
                if not left:
                    raise
                limit_bytes = self._shrink(limit_bytes)
            else:
                return

    def _write(self, batch: list[tuple[bytes, bytes]], read: set[bytes], rotten: set[bytes], limit_bytes: int) -> None:
        with self._env.begin(write=True) as txn:
            clock = Clock(txn, self._tables)
            clock.mark(sorted(read))  # the same pages whatever the order of a set
            for key, value in batch:
                if key in rotten or txn.get(key, db=self._tables.numbers) is None:
                    size = footprint(len(value) + DIGEST_BYTES)
                    clock.evict_to(limit_bytes - size)
                    clock.add(key, size)
                    txn.put(key, sealed(key, value), db=self._tables.entries)
                else:
                    clock.mark([key])
            used_bytes = clock.used_bytes
        self.used_bytes = used_bytes
        self.counts.evictions += clock.evictions

    def _shrink(self, limit_bytes: int) -> int:
        """Evicts some more in a transaction of its own, whose pages the next one can use."""
        limit_bytes = int(min(limit_bytes, self.used_bytes) - self._limit_bytes * EVICT_MORE_SHARE)
        with self._env.begin(write=True) as txn:
            clock = Clock(txn, self._tables)
            clock.evict_to(max(0, limit_bytes))
            self.used_bytes = clock.used_bytes
        self.counts.evictions += clock.evictions
        return limit_bytes

    def _account(self) -> None:
        with self._env.begin() as txn:
            self.used_bytes = Clock(txn, self._tables).used_bytes

    def _guarded(self, what: str, work: Any) -> bool:
        """False where the disk failed."""
        try:
            work()
        except (self._opened.error, OSError) as error:
            self._troubles[what] = str(error)
            log.warning("score_cache_disk_failed", what=what, error=str(error))
            return False
        self._troubles.pop(what, None)
        return True


def sealed(key: bytes, value: bytes) -> bytes:
    """What is stored: a digest of format, key and value, then the value."""
    return _digest(key, value) + value


def unsealed(key: bytes, stored: Any) -> bytes | None:
    """The value; None where a bit of it, or its key, is another than when it was stored."""
    view = memoryview(stored)
    value = bytes(view[DIGEST_BYTES:])
    return value if bytes(view[:DIGEST_BYTES]) == _digest(key, value) else None


def _digest(key: bytes, value: bytes) -> bytes:
    digest = hashlib.blake2b(FORMAT + key, digest_size=DIGEST_BYTES)
    digest.update(value)
    return digest.digest()
