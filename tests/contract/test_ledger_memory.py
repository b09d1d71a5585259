"""The ledger of one process keeps every rule of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from preceptor.queue.ledger import MemoryLedger
from preceptor.queue.quotas import Ledger
from tests.contract.ledger_suite import LedgerRules, OpenLedger, make_ledger_machine
from tests.contract.queue_rig import Clock


@asynccontextmanager
async def open_memory_ledger(clock: Clock) -> AsyncIterator[Ledger]:
    yield MemoryLedger(clock)


@pytest.fixture
def open_ledger() -> OpenLedger:
    return open_memory_ledger


class TestLedger(LedgerRules): ...


def test_no_history_leaks_or_exceeds() -> None:
    run_state_machine_as_test(
        make_ledger_machine(open_memory_ledger),
        settings=settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)),
    )
