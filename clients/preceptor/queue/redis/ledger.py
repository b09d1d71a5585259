"""The ledger on the server, which all workers of a teacher share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from preceptor.queue.keys import quota_key, usage_key
from preceptor.queue.quotas import (
    MAX_JOBS,
    OTHER_JOBS,
    RESERVED_S,
    USAGE_KEPT_S,
    WINDOW_S,
    Answer,
    Counter,
    Move,
    QuotaLimits,
    Usage,
    Verdict,
)
from preceptor.queue.redis.doors import milliseconds
from preceptor.queue.redis.link import Link, Patience, Value
from preceptor.queue.redis.replies import accepted
from preceptor.queue.types import Clock

BRIEF = Patience(total_s=2.0, attempt_s=1.0)
"""Requests wait for their quota, so a server that is away is noticed soon."""


class RedisLedger:
    """A `Ledger` by the server's clock. Opening it asks the server nothing; use it in the event loop that opened it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    def open(cls, url: str, password: str | None, *, patience: Patience = BRIEF, clock: Clock | None = None) -> Self:
        """The clock is for tests that move time by hand."""
        return cls(Link(url, password, patience, clock))

    async def close(self) -> None:
        await self._link.close()

    async def apply(self, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> tuple[Answer, ...]:
        """See `Ledger.apply`."""
        items: list[Value] = [
            part for move in moves for part in (str(move.verb), move.effect, move.tokens, move.places, move.owner)
        ]
        args: dict[str, Value] = {
            "tokens_limit": limits.tokens_per_minute,
            "places_limit": limits.in_flight,
            "reserved_ms": milliseconds(RESERVED_S),
            "window_s": WINDOW_S,
        }
        reply = await self._link.run("quota", {"quota": quota_key(teacher, tenant)}, args, items=items)
        (answers,) = accepted(reply, tenant)
        return tuple(Answer(Verdict(verdict.decode()), int(used), int(retry_ms)) for verdict, used, retry_ms in answers)

    async def add_usage(self, teacher: str, tenant: str, counts: Usage, op: bytes) -> None:
        """See `Ledger.add_usage`."""
        items: list[Value] = [
            part for job, counted in counts.items() for counter, count in counted.items() for part in (job, str(counter), count)
        ]
        args: dict[str, Value] = {
            "op": op,
            "max_jobs": MAX_JOBS,
            "other_jobs": OTHER_JOBS,
            "kept_ms": milliseconds(USAGE_KEPT_S),
        }
        accepted(await self._link.run("add_usage", {"usage": usage_key(teacher, tenant)}, args, items=items), tenant)

    async def usage(self, teacher: str, tenant: str) -> Usage:
        """See `Ledger.usage`."""
        (found,) = accepted(await self._link.run("read_usage", {"usage": usage_key(teacher, tenant)}, {}), tenant)
        jobs: dict[str, dict[Counter, int]] = {}
        for job, counter, count in found:
            jobs.setdefault(job.decode(), {})[Counter(counter.decode())] = int(count)
        return jobs
