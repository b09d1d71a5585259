"""The ledger of one process: quotas and usage that no other process shares."""

from __future__ import annotations

import time
from collections.abc import Sequence

from preceptor.queue.quotas import Answer, Move, QuotaLimits, Usage
from preceptor.queue.scripts import quotas
from preceptor.queue.space import KeySpace, Slot
from preceptor.queue.types import Clock


class MemoryLedger:
    """A `Ledger` without I/O; it starts empty with its process."""

    def __init__(self, clock: Clock = time.time, *, space: KeySpace | None = None) -> None:
        self._clock = clock
        self._space = space or KeySpace()

    async def apply(self, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> tuple[Answer, ...]:
        """See `Ledger.apply`."""
        return tuple(quotas.quota(self._slot(), teacher, tenant, limits, moves))

    async def add_usage(self, teacher: str, tenant: str, counts: Usage, op: bytes) -> None:
        """See `Ledger.add_usage`."""
        quotas.add_usage(self._slot(), teacher, tenant, counts, op)

    async def usage(self, teacher: str, tenant: str) -> Usage:
        """See `Ledger.usage`."""
        return quotas.read_usage(self._slot(), teacher, tenant)

    def _slot(self) -> Slot:
        return self._space.step(int(self._clock() * 1000))
