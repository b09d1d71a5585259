"""The in-memory queue keeps every rule of the contract."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.queue_machine import make_machine
from tests.contract.queue_overview import OverviewRules
from tests.contract.queue_rig import Lose, OpenQueue, lose_in_memory, open_memory_queue
from tests.contract.queue_suite import CommitRules, LeaseRules, LogRules, PoisonRules, ResultRules, StoryRules, TaskRules, rig

__all__ = ["rig"]


@pytest.fixture
def open_queue() -> OpenQueue:
    return open_memory_queue


@pytest.fixture
def lose_key() -> Lose:
    return lose_in_memory


class TestLogs(LogRules): ...


class TestTasks(TaskRules): ...


class TestLeases(LeaseRules): ...


class TestCommits(CommitRules): ...


class TestPoison(PoisonRules): ...


class TestOverview(OverviewRules): ...


class TestResults(ResultRules): ...


class TestStories(StoryRules): ...


def test_no_history_loses_repeats_or_reorders_a_row() -> None:
    run_state_machine_as_test(
        make_machine(open_memory_queue, lose_in_memory),
        settings=settings(max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)),
    )
