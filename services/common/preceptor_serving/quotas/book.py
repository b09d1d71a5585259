"""Counts of what tenants used, job by job: collected here, added to the ledger every second and when somebody asks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from preceptor.errors import PreceptorError
from preceptor.logs import get_logger
from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import MAX_JOBS, OTHER_JOBS, Counter, Ledger, Usage

FLUSH_S = 1.0
CLOSE_S = 3.0
OP_BYTES = 16
log = get_logger("preceptor.usage")
Tenant = tuple[str, str]
"""(teacher, tenant)"""


@dataclass(frozen=True, slots=True)
class Page:
    """Counts under way to the ledger. They keep their number until they have arrived, so they are added once."""

    counts: dict[str, dict[Counter, int]] = field(default_factory=dict)
    op: bytes = field(default_factory=lambda: secrets.token_bytes(OP_BYTES))

    def add(self, job: str, counts: Mapping[Counter, int]) -> None:
        known = job in self.counts or len(self.counts) < MAX_JOBS
        row = self.counts.setdefault(job if known else OTHER_JOBS, {})
        for counter, count in counts.items():
            row[counter] = row.get(counter, 0) + count


class UsageBook:
    """The counts of one service. `shared` says whether they outlive the process, `since` when they began otherwise."""

    def __init__(self, shared: Ledger | None, own: Ledger | None = None) -> None:
        self.shared = shared is not None
        self.since = datetime.now(UTC).replace(microsecond=0)
        self._ledger = shared or own or MemoryLedger()
        self._open: dict[Tenant, Page] = {}
        self._sent: dict[Tenant, Page] = {}
        self._lock = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._flush_loop(), name="usage-flush")

    async def close(self) -> None:
        """What was counted is handed over, if the ledger answers within a moment."""
        if self._loop is not None:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
        except (TimeoutError, PreceptorError) as error:
            log.warning("usage_lost", tenants=len(self._open.keys() | self._sent.keys()), error=str(error))

    def count(self, teacher: str, tenant: str, job: str, counts: Mapping[Counter, int]) -> None:
        """Adds to the counts of a job."""
        self._open.setdefault((teacher, tenant), Page()).add(job, counts)

    async def usage(self, teacher: str, tenant: str) -> Usage:
        """Everything counted so far; `Unavailable` where the ledger does not answer."""
        await self.flush()
        return await self._ledger.usage(teacher, tenant)

    async def flush(self) -> None:
        """Hands all counts over; the first failure ends it, and the next flush goes on from there."""
        async with self._lock:
            for name in list(self._open.keys() | self._sent.keys()):
                while (page := self._next_page(name)) is not None:
                    await self._ledger.add_usage(*name, page.counts, page.op)
                    del self._sent[name]

    def _next_page(self, name: Tenant) -> Page | None:
        """The page that is under way, else the open one, which is closed with it."""
        if name not in self._sent and name in self._open:
            self._sent[name] = self._open.pop(name)
        return self._sent.get(name)

    async def _flush_loop(self) -> None:
        away = False
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
                away = False
            except PreceptorError as error:
                if not away:
                    log.warning("usage_waits", error=error.message)
                away = True
