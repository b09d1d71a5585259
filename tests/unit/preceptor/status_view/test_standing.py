"""Figures of replicas put together: sums, shares, rates between two looks, and Jain's index by its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preceptor.status_view.board import duration, engine_cells, headlines, job_cells, size
from preceptor.status_view.standing import Snapshot, engine_rows, fairness, job_rows
from preceptor.types import EngineStatus, FlowStatus, QueueStatus, ServiceState, TeacherStatus

FLOW = FlowStatus("tiny", "acme", "night", 0, 2.0, 3, 90.0, 7.0, 1.5, 100, 4.0)
ENGINE = EngineStatus("tiny", True, 1, 3, 2, 300, 100, 1, 3)
QUEUE = QueueStatus("tiny", "acme", "night", 5, 1, 2, 4, 2048, 6)
STATUS = TeacherStatus(ServiceState.READY, "w-1", (), (ENGINE,), (FLOW,), (QUEUE,))


def look(at_s: float, **replicas: TeacherStatus) -> Snapshot:
    return Snapshot(at_s, replicas)


def test_a_job_is_one_row_over_its_bands_and_replicas() -> None:
    other = replace(STATUS, flows=(replace(FLOW, band=2, queued_tasks=9, oldest_wait_s=0.5, eta_s=None, served_tokens=11),))
    (row,) = job_rows(look(0, a=STATUS, b=other))
    assert (row.bands, row.weight, row.queued, row.oldest_wait_s, row.eta_s) == ((0, 2), 2.0, 12, 1.5, 4.0)
    assert (row.served_tokens, row.served_per_s, row.leased, row.unread_bytes, row.dead_letters) == (111, None, 2, 2048, 6)


def test_what_only_the_durable_door_knows_is_a_row_too() -> None:
    (row,) = job_rows(look(0, a=replace(STATUS, flows=())))
    assert (row.queued, row.bands, row.dead_letters) == (5, (), 6)


def test_rates_are_between_two_looks_of_one_process() -> None:
    later = replace(STATUS, engines=(replace(ENGINE, tokens_computed=500),), flows=(replace(FLOW, served_tokens=150),))
    now, before = look(12, a=later), look(10, a=STATUS)
    assert [row.tokens_per_s for row in engine_rows(now, before)] == [100]
    assert [row.served_per_s for row in job_rows(now, before)] == [25]
    started_anew = look(12, a=replace(STATUS, engines=(replace(ENGINE, tokens_computed=5),)))
    assert [row.tokens_per_s for row in engine_rows(started_anew, before)] == [None]
    assert [row.tokens_per_s for row in engine_rows(now)] == [None]


def flows(**served: tuple[int, float, int]) -> TeacherStatus:
    """job = (tokens served, weight, tasks that wait)"""
    rows = [
        replace(FLOW, job=job, served_tokens=tokens, weight=weight, queued_tasks=queued)
        for job, (tokens, weight, queued) in served.items()
    ]
    return replace(STATUS, flows=tuple(rows), queues=())


def test_fairness_is_over_weight_and_of_those_that_waited_all_along() -> None:
    before = look(0, a=flows(one=(0, 1.0, 5), two=(0, 2.0, 5), idle=(0, 1.0, 0)))
    even = look(1, a=flows(one=(10, 1.0, 5), two=(20, 2.0, 5), idle=(0, 1.0, 5)))
    assert fairness(even, before) == pytest.approx(1.0)
    starved = look(1, a=flows(one=(30, 1.0, 5), two=(0, 2.0, 5)))
    assert fairness(starved, before) == pytest.approx(0.5)
    assert fairness(look(1, a=flows(one=(30, 1.0, 5), two=(0, 2.0, 0))), before) is None


def test_cells_say_what_there_is_and_a_dash_for_what_is_not_known() -> None:
    now = look(0, a=replace(STATUS, reasons={"queue:tiny": "the server does not answer"}))
    assert engine_cells(now, None) == [("tiny", "a", "up", "3", "2", "-", "300", "25%", "25%", "1")]
    assert job_cells(now, None) == [("tiny", "acme", "night", "0", "2", "5", "1.5 s", "4.0 s", "-", "100", "2", "2.0 KiB", "6")]
    assert list(headlines(now, None)) == ["a  ready  worker w-1", "  queue:tiny: the server does not answer"]


@pytest.mark.parametrize(("seconds", "text"), [(None, "-"), (0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1.0 min"), (5400, "1.5 h")])
def test_durations_have_the_unit_a_person_takes(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_sizes() -> None:
    assert [size(n) for n in (0, 512, 3 << 20)] == ["0", "0.5 KiB", "3.0 MiB"]
