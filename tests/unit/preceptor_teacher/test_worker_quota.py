"""Rows of a queued task are paid and counted in the step that commits them, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from preceptor.errors import Exhausted, Unavailable
from preceptor.names import effect_id
from preceptor.queue import MemoryQueue, QueueBounds, ScoreStream, Then
from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import Answer, Counter, Move, Payment, QuotaLimits, Verb
from preceptor.queue.space import KeySpace
from preceptor_serving.auth.terms import Terms
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.quotas import Accounts, Hold
from preceptor_serving.scheduler.types import FlowKey
from tests.contract.queue_rig import Clock
from tests.unit.preceptor_teacher.test_worker import EOS, FLOW, QUICK, SAMPLED, TEACHER, Rig, respond, task, until, worker

TOKENS = 5  # of each task below: three of context, two of the response
ESTIMATED = 4  # before it was computed: nothing has to read the last token
LIMIT = 100
TERMS = Terms(QuotaLimits(tokens_per_minute=LIMIT, in_flight=1))

ALL_OF_IT = {
    Counter.REQUESTS: 1,
    Counter.ROWS: 2,
    Counter.COMPUTED: TOKENS,
    Counter.REUSED: 0,
    Counter.CACHED: 0,
    Counter.CHARGED: TOKENS,
}


class ToldLedger(MemoryLedger):
    """Remembers what was settled by asking it."""

    settled: tuple[int, ...] = ()
    reserved = 0

    async def apply(self, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> tuple[Answer, ...]:
        self.settled += tuple(move.tokens for move in moves if move.verb is Verb.SETTLE)
        self.reserved += sum(move.verb is Verb.RESERVE for move in moves)
        return await super().apply(teacher, tenant, limits, moves)


class LosesReplies(MemoryQueue):
    """Commits the first rows, and says that it does not answer."""

    lost = 0

    async def commit(self, lease, envelopes, scored_upto, then=Then.RELEASE, *, payment=None):
        committed = await super().commit(lease, envelopes, scored_upto, then, payment=payment)
        if envelopes and not self.lost:
            self.lost += 1
            raise Unavailable("no reply")
        return committed


@dataclass
class Paid:
    """A queue and the ledger beside it, of a tenant with one place."""

    queue: MemoryQueue
    ledger: ToldLedger
    accounts: Accounts
    clock: Clock

    @property
    def at(self) -> Rig:
        return Rig(self.queue, ScoreStream(self.queue, FLOW), {})

    async def reserve(self, tokens: int, effect: bytes | None = None, owner: str = "") -> Hold:
        flow = FlowKey(TEACHER, FLOW.tenant, FLOW.job, 0)
        return await self.accounts.reserve(flow, TERMS.limits, tokens=tokens, places=1, effect=effect, owner=owner)

    async def is_left(self, tokens: int) -> None:
        """Exactly so many tokens, and the place."""
        with pytest.raises(Exhausted) as refused:
            await self.reserve(tokens + 1)
        assert refused.value.field == "quota.tokens_per_minute"
        await self.reserve(tokens)

    async def used(self, names: Sequence[str] = (TEACHER,)) -> Mapping[Counter, int]:
        return (await self.accounts.usage(names, FLOW.tenant))[FLOW.job]


@asynccontextmanager
async def paying(queue_class: type[MemoryQueue] = MemoryQueue) -> AsyncGenerator[Paid]:
    space, clock = KeySpace(), Clock()
    ledger, queue = ToldLedger(clock, space=space), queue_class(clock=clock, space=space)
    try:
        yield Paid(queue, ledger, Accounts(lambda tenant, job: TERMS, ledger), clock)
    finally:
        await queue.close()


def slow() -> InlineEngine:
    return InlineEngine(lambda: FakeEngine(FakeOptions(name=TEACHER, tokens_per_s=5.0)))


@pytest.mark.parametrize(
    ("names", "asked"), [((TEACHER,), ()), (("other", TEACHER), (TOKENS,))], ids=["under its own name", "under an alias"]
)
async def test_a_commit_pays_for_its_rows_where_their_keys_allow_it(names: tuple[str, ...], asked: tuple[int, ...]) -> None:
    """A task that named an alias lies in another slot than the quota of the teacher's own name."""
    space, terms = KeySpace(), Terms(QuotaLimits(tokens_per_minute=100, in_flight=1))
    ledger, queue = ToldLedger(space=space), MemoryQueue(space=space)
    accounts = Accounts(lambda tenant, job: terms, ledger)
    at = Rig(queue, ScoreStream(queue, FLOW), {})
    async with worker(queue, names=names, accounts=accounts):
        await at.stream.open(task("paid", SAMPLED))
        writer = at.writer()
        await respond(writer, [4, 5])
        await writer.close(EOS)
        await at.until("paid")
    assert ledger.settled == asked
    flow = FlowKey(names[0], FLOW.tenant, FLOW.job, 0)
    hold = await accounts.reserve(flow, terms.limits, tokens=100 - TOKENS, places=1)  # exactly what is left
    await hold.settle(0)


async def test_a_worker_that_lost_its_lease_leaves_its_successor_s_reservation_alone():
    async with paying() as paid:
        queue, at = paid.queue, paid.at
        async with worker(queue, slow(), accounts=paid.accounts, policy=replace(QUICK, heartbeat_s=0.2)) as one:
            await at.stream.open(task("taken", SAMPLED))
            await respond(at.writer(), [4, 5])
            await until(lambda: paid.ledger.reserved)
            paid.clock.advance(QueueBounds().lease_s + 1)
            assert await queue.reclaim(TEACHER), "the lease has expired"
            [lease] = await queue.lease(FLOW, "successor", alone=True)
            effect = effect_id(FLOW.tenant, FLOW.job, "taken", 0, 2)
            hold = await paid.reserve(TOKENS, effect=effect, owner=lease.fence.hex())
            await until(lambda: not one.held)
            settle = hold.in_commit(TEACHER, TOKENS)
            await queue.commit(lease, [], 0, Then.FINISH, payment=Payment(settle))
        await paid.is_left(LIMIT - TOKENS)


async def test_a_cancelled_task_gives_its_place_back_and_pays_for_what_ran():
    async with paying() as paid, worker(paid.queue, slow(), accounts=paid.accounts) as one:
        at = paid.at
        await at.stream.open(task("cancelled", SAMPLED))
        await respond(at.writer(), [4, 5])
        await until(lambda: paid.ledger.reserved and one.held)
        await asyncio.sleep(0.05)  # on the engine
        await at.stream.cancel("cancelled")
        await until(lambda: not one.held)
        assert await paid.used() == {Counter.CHARGED: ESTIMATED}
        await paid.is_left(LIMIT - ESTIMATED)


async def test_use_is_counted_once_though_the_reply_to_the_commit_was_lost() -> None:
    async with paying(LosesReplies) as paid:
        await _score_one(paid, TEACHER)
        assert await paid.used() == ALL_OF_IT
        await paid.is_left(LIMIT - TOKENS)


async def test_use_under_an_alias_is_counted_in_the_commit_as_well() -> None:
    """The worker is told that the commit failed: whatever is counted after it is lost."""
    async with paying(LosesReplies) as paid:
        await _score_one(paid, "its-own-name", TEACHER)
        assert await paid.used(("its-own-name", TEACHER)) == ALL_OF_IT


async def _score_one(paid: Paid, *names: str) -> None:
    at = paid.at
    async with worker(paid.queue, names=names, accounts=paid.accounts):
        await at.stream.open(task("counted", SAMPLED))
        writer = at.writer()
        await respond(writer, [4, 5])
        await writer.close(EOS)
        await at.until("counted")
