"""The sharing simulation at a tenth of its size: the bars hold, FIFO misses them, and the measures measure."""

from __future__ import annotations

import pytest

from benchmarks.sharing.cases import SETUPS, WEIGHTS, contended
from benchmarks.sharing.measures import jain, max_min_shares, quantile
from benchmarks.sim_sharing import measure, throughput

REQUESTS = 10_000


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("setup", SETUPS)
def test_a_flood_takes_nothing_from_others(weights: str, setup: str) -> None:
    case = contended(weights, setup, REQUESTS, seed=1)
    assert case.jain >= 0.98
    assert case.steady_over_bound <= 1.0
    assert case.bursty_over_bound <= 1.0
    assert case.busy >= 0.98


def test_first_come_first_served_misses_both_bars_so_they_can_be_missed() -> None:
    case = contended("equal", "1 worker", REQUESTS, seed=1, first_come=True)
    assert case.jain <= 0.5
    assert case.steady_over_bound >= 5.0


def test_eight_jobs_get_as_much_done_as_one() -> None:
    assert throughput(REQUESTS // 5).value >= 0.95


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (contended("1:2:4", "3 workers, shared clocks", REQUESTS // 5, seed=3) for _ in range(2))
    assert (first.jain, first.steady_over_bound, first.seconds) == (second.jain, second.steady_over_bound, second.seconds)


def test_the_report_has_every_figure_and_the_case_where_we_lose() -> None:
    rows, lines = measure(2_000, 200)
    assert [row.id for row in rows] == ["P6.jain", "P6.virtual", "P6.virtual.bursty", "P6.throughput.virtual"]
    assert "where we lose" in lines[-1]


def test_fair_shares_are_max_min() -> None:
    demand, weight = {"a": 1.0, "b": 100.0, "c": 100.0}, {"a": 1.0, "b": 1.0, "c": 2.0}
    assert max_min_shares(demand, weight, 10.0) == {"a": 1.0, "b": 3.0, "c": 6.0}
    assert max_min_shares(demand, weight, 1_000.0) == demand


def test_jain_and_quantiles() -> None:
    assert (jain([2.0, 2.0]), jain([1.0, 0.0, 0.0, 0.0])) == (1.0, 0.25)
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 1.0)] == [1.0, 2.0, 3.0]
