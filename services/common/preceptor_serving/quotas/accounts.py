"""All that a service knows of its tenants: their terms, their reservations, what they used."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

from preceptor.errors import Exhausted
from preceptor.names import effect_id
from preceptor.queue.quotas import Counter, Ledger, QuotaLimits, Usage
from preceptor_serving.auth.terms import UNLIMITED, Terms
from preceptor_serving.quotas.book import UsageBook
from preceptor_serving.quotas.desk import Desk, Hold
from preceptor_serving.scheduler.types import FlowKey

TermsOf = Callable[[str, str], Terms]
"""(tenant, job) -> terms of work that came without a key."""


def no_terms(tenant: str, job: str) -> Terms:
    """Everybody is without limits, where there are no keys."""
    return UNLIMITED


class Accounts:
    """Starts and stops with its service; `shared` is the ledger of all workers, where there is one."""

    def __init__(self, terms: TermsOf = no_terms, shared: Ledger | None = None) -> None:
        self.terms = terms
        self.desk = Desk(shared)
        self.book = UsageBook(shared)

    def start(self) -> None:
        self.desk.start()
        self.book.start()

    async def close(self) -> None:
        await asyncio.gather(self.desk.close(), self.book.close())

    async def reserve(
        self, flow: FlowKey, limits: QuotaLimits, *, tokens: int, places: int, effect: bytes | None = None, owner: str = ""
    ) -> Hold:
        """The hold of one piece of work, as `Desk.reserve`; a refusal is counted. `effect` names work that others may repeat."""
        effect = effect or effect_id(flow.tenant, flow.job, f"call-{secrets.token_hex(16)}", 0, places)
        try:
            return await self.desk.reserve(
                flow.teacher, flow.tenant, limits, tokens=tokens, places=places, effect=effect.hex(), owner=owner
            )
        except Exhausted:
            self.count(flow, {Counter.REFUSALS: 1})
            raise

    def count(self, flow: FlowKey, counts: Mapping[Counter, int]) -> None:
        """Adds to what the flow's job used."""
        self.book.count(flow.teacher, flow.tenant, flow.job, counts)

    async def usage(self, names: Sequence[str], tenant: str) -> Usage:
        """What the tenant's jobs used at one teacher under all of its names: queued work is counted under the one it came by."""
        summed: dict[str, dict[Counter, int]] = {}
        for name in names:
            for job, counts in (await self.book.usage(name, tenant)).items():
                row = summed.setdefault(job, {})
                for counter, count in counts.items():
                    row[counter] = row.get(counter, 0) + count
        return summed
