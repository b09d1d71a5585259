"""Rows of a queued task are paid in the step that commits them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from preceptor.queue import MemoryQueue, ScoreStream
from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import Answer, Move, QuotaLimits, Verb
from preceptor.queue.space import KeySpace
from preceptor_serving.auth.terms import Terms
from preceptor_serving.quotas import Accounts
from preceptor_serving.scheduler.types import FlowKey
from tests.unit.preceptor_teacher.test_worker import EOS, FLOW, SAMPLED, TEACHER, Rig, respond, task, worker

TOKENS = 5  # of the task below: three of context, two of the response


class ToldLedger(MemoryLedger):
    """Remembers what was settled by asking it."""

    settled: tuple[int, ...] = ()

    async def apply(self, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> tuple[Answer, ...]:
        self.settled += tuple(move.tokens for move in moves if move.verb is Verb.SETTLE)
        return await super().apply(teacher, tenant, limits, moves)


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
