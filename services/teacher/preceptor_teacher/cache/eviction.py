"""Which entries leave the disk: a clock over the order of arrival, kept in the same transactions as the entries themselves.

An entry that was read since it came, or since the hand last passed it, goes to the end of the order once more. What is accounted
is what the pages of the file take, so that the file has room for the next entries before it meets its bound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PAGE_BYTES = 4096
PAGE_HEAD_BYTES = 16
UPKEEP_BYTES = 512  # branches, the order, marks
USED_KEY, NEXT_KEY = b"used", b"next"
NUMBER = struct.Struct(">Q")
RECORD = struct.Struct("<32sQ")  # key, footprint


def footprint(value_bytes: int) -> int:
    """Bytes of the file that an entry takes: whole pages, or a leaf that may be half empty."""
    if value_bytes > PAGE_BYTES // 4:
        return -(-(value_bytes + PAGE_HEAD_BYTES) // PAGE_BYTES) * PAGE_BYTES + UPKEEP_BYTES
    return 2 * value_bytes + UPKEEP_BYTES


@dataclass(frozen=True, slots=True)
class Tables:
    """Handles of the file's tables."""

    entries: Any  # key -> sealed value
    order: Any  # number -> key, footprint
    numbers: Any  # key -> its number in the order
    marks: Any  # keys that were read
    counts: Any


class Clock:
    """The order inside one write transaction."""

    def __init__(self, txn: Any, tables: Tables) -> None:
        self._txn, self._tables = txn, tables
        self.evictions = 0

    @property
    def used_bytes(self) -> int:
        return self._count(USED_KEY)

    def add(self, key: bytes, size: int) -> None:
        """Appends an entry; where the key stands in the order already, its older place no longer counts."""
        number = NUMBER.pack(self._count(NEXT_KEY))
        self._set(NEXT_KEY, self._count(NEXT_KEY) + 1)
        self._set(USED_KEY, self.used_bytes + size)
        self._txn.put(number, RECORD.pack(key, size), db=self._tables.order, append=True)
        self._txn.put(key, number, db=self._tables.numbers)

    def mark(self, keys: Iterable[bytes]) -> None:
        """These were read; keys that are gone meanwhile are left out."""
        for key in keys:
            if self._txn.get(key, db=self._tables.entries) is not None:
                self._txn.put(key, b"", db=self._tables.marks)

    def evict_to(self, limit_bytes: int) -> None:
        """Removes entries until no more than `limit_bytes` are used. A mark saves an entry once."""
        with self._txn.cursor(db=self._tables.order) as hand:
            while self.used_bytes > limit_bytes and hand.first():
                number, (key, size) = bytes(hand.key()), RECORD.unpack(hand.value())
                hand.delete()
                self._set(USED_KEY, self.used_bytes - size)
                if self._txn.get(key, db=self._tables.numbers) == number:
                    self._leave_or_stay(key, size)

    def _leave_or_stay(self, key: bytes, size: int) -> None:
        if self._txn.delete(key, db=self._tables.marks):
            self.add(key, size)
            return
        self._txn.delete(key, db=self._tables.entries)
        self._txn.delete(key, db=self._tables.numbers)
        self.evictions += 1

    def _count(self, name: bytes) -> int:
        value = self._txn.get(name, db=self._tables.counts)
        return 0 if value is None else NUMBER.unpack(value)[0]

    def _set(self, name: bytes, value: int) -> None:
        self._txn.put(name, NUMBER.pack(value), db=self._tables.counts)
