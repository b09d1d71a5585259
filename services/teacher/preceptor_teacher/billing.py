"""What tickets cost their tenant: reserved before they are queued, settled to what they took, counted for their job."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from preceptor.errors import Exhausted
from preceptor.names import effect_id
from preceptor.queue import Lease
from preceptor.queue.quotas import Counter, Payment, QuotaLimits
from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_serving.quotas import Accounts, Hold
from preceptor_serving.scheduler.types import FlowKey
from preceptor_teacher.api import Payer, Spent
from preceptor_teacher.tickets import Ticket


@asynccontextmanager
async def paid_for(accounts: Accounts, flow: FlowKey, limits: QuotaLimits, tickets: Sequence[Ticket]) -> AsyncGenerator[None]:
    """Room in the tenant's quota for these tickets, which end inside the block; what ran is paid, however the block ends."""
    if not tickets:
        yield
        return
    hold = await accounts.reserve(flow, limits, tokens=sum(map(_most_tokens, tickets)), places=len(tickets))
    try:
        yield
    except Exhausted:
        accounts.count(flow, {Counter.REFUSALS: 1})
        raise
    finally:
        spent = sum(ticket.spent_tokens for ticket in tickets)
        accounts.count(flow, {Counter.CHARGED: spent})
        await hold.settle(spent)


def count_calls(accounts: Accounts, teacher: str, payer: Payer, spent: Spent) -> None:
    """What a call to a provider is to a job's usage."""
    counts = {
        Counter.PROVIDER_CALLS: spent.calls,
        Counter.PROMPT: spent.tokens.prompt,
        Counter.PROMPT_CACHED: spent.tokens.cached,
        Counter.COMPLETION: spent.tokens.completion,
        Counter.COST_NANO_USD: spent.cost_nano,
    }
    accounts.count(FlowKey(teacher, payer.tenant, payer.job, 0), counts)


def counts_of(tickets: Sequence[Ticket], results: Sequence[teacher_pb2.ScoreResult]) -> dict[Counter, int]:
    """What these results are to a job's usage; what they were charged is counted where it is paid."""
    hits = [result.receipt.cache != common_pb2.CACHE_TIER_NONE for result in results]
    return {
        Counter.ROWS: sum(result.rows.count for result in results),
        Counter.COMPUTED: sum(result.receipt.tokens_computed for result in results),
        Counter.REUSED: sum(result.receipt.tokens_reused for result, hit in zip(results, hits, strict=True) if not hit),
        Counter.CACHED: sum(_most_tokens(ticket) for ticket, hit in zip(tickets, hits, strict=True) if hit),
    }


@dataclass(slots=True)
class LeaseBill:
    """What one chunk of a leased task costs. A worker that takes the same rows over owns the same reservation.

    Rows are charged by the commit that brings them, once, whoever computed them how often before.
    """

    accounts: Accounts
    ticket: Ticket
    hold: Hold | None = None

    async def open(self, lease: Lease, limits: QuotaLimits, start: int, end: int) -> None:
        """Room for the chunk, or `Exhausted`: then the task goes back and its tenant's others wait as well."""
        effect = effect_id(lease.flow.tenant, lease.flow.job, lease.task_id, start, end)
        flow, tokens = self.ticket.task.flow, _most_tokens(self.ticket)
        self.hold = await self.accounts.reserve(flow, limits, tokens=tokens, places=1, effect=effect, owner=lease.fence.hex())

    def in_commit(self, lease: Lease, result: teacher_pb2.ScoreResult) -> Payment:
        """What the commit of the rows pays along with them; `paid` does the rest.

        Use is counted under the name that the task used, in whose slot the commit is; `Accounts.usage` adds up a teacher's names.
        """
        settle = self.hold.in_commit(lease.flow.teacher, self.ticket.spent_tokens) if self.hold is not None else None
        return Payment(settle, self._counts(result) if self.accounts.book.shared else {})

    async def paid(self, result: teacher_pb2.ScoreResult, payment: Payment) -> None:
        """The rows are committed."""
        if not payment.counts:
            self.accounts.count(self.ticket.task.flow, self._counts(result))
        if payment.settle is not None:
            self.abandon()
        elif self.hold is not None:
            await self.hold.settle(self.ticket.spent_tokens)

    async def drop(self, *, cancelled: bool) -> None:
        """The rows will not be committed by this lease. What ran for a task that its learner then cancelled is paid."""
        spent_tokens = self.ticket.spent_tokens if cancelled else 0
        self.accounts.count(self.ticket.task.flow, {Counter.CHARGED: spent_tokens} if spent_tokens else {})
        if self.hold is not None:
            await self.hold.settle(spent_tokens)

    def abandon(self) -> None:
        """Paid, or nobody knows whether the commit was made."""
        if self.hold is not None:
            self.hold.abandon()

    def _counts(self, result: teacher_pb2.ScoreResult) -> dict[Counter, int]:
        counts = counts_of([self.ticket], [result])
        return {Counter.REQUESTS: 1, **counts, Counter.CHARGED: self.ticket.spent_tokens}


def _most_tokens(ticket: Ticket) -> int:
    """Whatever engine it is, it computes no token twice: all of the sequence but what an earlier chunk has paid for."""
    segments = [segment.WhichOneof("kind") for segment in ticket.item.sequence.segments]
    planes = zip(ticket.item.sequence.segments, segments, strict=True)
    whole = sum(len(getattr(segment, kind).u32le) // 4 for segment, kind in planes if kind)
    return whole - ticket.paid_tokens
