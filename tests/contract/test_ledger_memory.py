"""The ledger of one process keeps every rule of the contract, settled by itself or by commits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from preceptor.queue import MemoryQueue
from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import Ledger
from preceptor.queue.space import KeySpace
from tests.contract.ledger_suite import LedgerRules, OpenLedger, make_ledger_machine
from tests.contract.queue_rig import Clock
from tests.contract.settling import SettlesByCommits


@asynccontextmanager
async def open_memory_ledger(clock: Clock) -> AsyncIterator[Ledger]:
    yield MemoryLedger(clock)


@asynccontextmanager
async def open_beside_a_queue(clock: Clock) -> AsyncIterator[Ledger]:
    space = KeySpace()
    yield SettlesByCommits(MemoryLedger(clock, space=space), MemoryQueue(clock=clock, space=space))


OPENERS = {"by itself": open_memory_ledger, "by commits": open_beside_a_queue}
every_way = pytest.mark.parametrize("open_ledger", OPENERS.values(), ids=OPENERS)


@every_way
class TestLedger(LedgerRules): ...


@every_way
def test_no_history_leaks_or_exceeds(open_ledger: OpenLedger) -> None:
    run_state_machine_as_test(
        make_ledger_machine(open_ledger),
        settings=settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]),
    )
