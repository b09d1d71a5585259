"""The tier in memory: least recently used out first, bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict

ENTRY_BYTES = 256  # what an entry takes beside its value: key, links, objects


class MemoryTier:
    """Never holds more than `max_bytes`, the upkeep of its entries included; 0 holds nothing."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Remembers it, unless it alone is more than fits."""
        self._forget(key)
        size = len(value) + ENTRY_BYTES
        if size > self.max_bytes:
            return
        while self.used_bytes + size > self.max_bytes:
            self._forget(next(iter(self._entries)))
            self.evictions += 1
        self._entries[key] = value
        self.used_bytes += size

    def _forget(self, key: bytes) -> None:
        value = self._entries.pop(key, None)
        if value is not None:
            self.used_bytes -= len(value) + ENTRY_BYTES
