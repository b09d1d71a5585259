"""A heap whose entries can be moved and removed: the one container behind queues, deadlines and bands."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
SMALL = 64


class Ranking(Generic[K]):
    """Keys in order of rank, lowest first. `put`, `discard` and `first` cost O(log n) amortised.

    Moved and removed entries stay in the heap until they surface. The heap is rebuilt when they are the majority, so memory is
    O(live keys) whatever the callers cancel. Ranks are tuples that end in something unique: keys are never compared.
    """

    def __init__(self) -> None:
        self._rank_of: dict[K, tuple[float, ...]] = {}
        self._heap: list[tuple[tuple[float, ...], K]] = []

    def __len__(self) -> int:
        return len(self._rank_of)

    def __contains__(self, key: K) -> bool:
        return key in self._rank_of

    def __iter__(self) -> Iterator[K]:
        return iter(self._rank_of)

    def rank(self, key: K) -> tuple[float, ...]:
        """Where this key stands; KeyError when it is not ranked."""
        return self._rank_of[key]

    def put(self, key: K, rank: tuple[float, ...]) -> None:
        """Add the key, or move it."""
        if self._rank_of.get(key) == rank:
            return
        self._rank_of[key] = rank
        heapq.heappush(self._heap, (rank, key))
        self._shrink()

    def discard(self, key: K) -> None:
        """Remove the key if it is there."""
        if self._rank_of.pop(key, None) is not None:
            self._shrink()

    def first(self) -> K | None:
        """The key of lowest rank, or None when nothing is ranked."""
        while self._heap:
            rank, key = self._heap[0]
            if self._rank_of.get(key) == rank:
                return key
            heapq.heappop(self._heap)
        return None

    def _shrink(self) -> None:
        if len(self._heap) > SMALL and len(self._heap) > 2 * len(self._rank_of):
            self._heap = [(rank, key) for key, rank in self._rank_of.items()]
            heapq.heapify(self._heap)
