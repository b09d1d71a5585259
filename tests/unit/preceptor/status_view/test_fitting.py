"""Tables in narrow terminals: columns leave in order, none is cut, and none disappears without being named."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from preceptor.status_view.board import JOB_NAMES, JOB_ORDER, JOBS, NUMBERS, job_table
from preceptor.status_view.fitting import Table, fitted
from preceptor.status_view.standing import Snapshot
from tests.unit.preceptor.status_view.test_standing import FLOW, STATUS

COLUMNS = ("a", "bb", "ccc", "dddd")
ROWS = st.lists(st.tuples(*[st.text("xy", max_size=9)] * len(COLUMNS)), max_size=4).map(tuple)


@given(rows=ROWS, width=st.integers(0, 60), order=st.permutations(COLUMNS[1:]))
def test_what_does_not_fit_leaves_in_order_and_is_named(rows: tuple[tuple[str, ...], ...], width: int, order: list[str]) -> None:
    whole = Table(COLUMNS, rows)
    made = fitted(whole, width, (), order)
    gone = [column for column, _ in made.same] + list(made.left_out)
    assert sorted((*made.columns, *gone)) == sorted(COLUMNS)
    assert set(gone) == set(order[: len(gone)])
    assert made.width <= width or len(gone) == len(order)
    if gone:
        kept = fitted(whole, 10**6, (), order)
        for column in order[: len(gone) - 1]:
            kept = kept.without(column)
        assert kept.width > width, "the last one left without need"
    for column, cell in made.same:
        assert {row[COLUMNS.index(column)] for row in rows} == {cell}


def test_every_job_s_whole_name_is_readable_in_eighty_columns() -> None:
    flows = tuple(replace(FLOW, job=f"night-run-{number}", weight=1.0 + number) for number in range(4))
    made = job_table(Snapshot(0.0, {"a": replace(STATUS, flows=flows, queues=())}), None, 80)
    assert made.width <= 80
    jobs = {row[made.columns.index("job")] for row in made.rows}
    assert jobs == {flow.job for flow in flows}
    assert {"queued", "ETA", "dead"} <= set(made.columns)
    assert any("tenant acme" in note for note in made.notes())


def test_jobs_of_two_tenants_are_told_apart_however_narrow_it_is() -> None:
    flows = (FLOW, replace(FLOW, tenant="umbrella"))
    made = job_table(Snapshot(0.0, {"a": replace(STATUS, flows=flows, queues=())}), None, 20)
    assert "tenant" in made.columns


def test_the_names_of_columns_are_those_of_the_board() -> None:
    assert set(JOBS) >= {*JOB_NAMES, *JOB_ORDER}
    assert set(JOBS) - NUMBERS == {"teacher", "tenant", "job", "band"}
