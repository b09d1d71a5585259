"""What `bench_sharing` makes of the times of answers."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks.bench_sharing import cases_of, kinds
from benchmarks.wall.cases import middle_per_s

PER_BATCH, BATCH_S = 10, 2.0
SPREAD_S = 0.004  # between the answers of a batch


def batches(count: int, start_s: float = 0.0) -> list[float]:
    """Answers of one worker, a batch at a time."""
    return [start_s + number * BATCH_S + each * SPREAD_S for number in range(count) for each in range(PER_BATCH)]


@pytest.mark.parametrize("workers", [1, 3])
def test_even_batches_have_the_rate_of_their_workers(workers: int) -> None:
    found = [done for worker in range(workers) for done in batches(20, worker * BATCH_S / workers)]
    assert middle_per_s(found) == pytest.approx(workers * PER_BATCH / BATCH_S)


@pytest.mark.parametrize("odd", range(PER_BATCH))
def test_where_a_batch_is_cut_does_not_count(odd: int) -> None:
    found = [*(0.5 - 0.001 * each for each in range(odd)), *batches(9, start_s=BATCH_S)]
    assert middle_per_s(found) == pytest.approx(PER_BATCH / BATCH_S)


def test_a_late_end_and_a_slow_beginning_do_not_count() -> None:
    even = batches(20, start_s=100.0)
    assert middle_per_s([0.0, *even, 1000.0, 2000.0]) == pytest.approx(PER_BATCH / BATCH_S)


def test_a_slow_middle_counts() -> None:
    halves = [*batches(10), *(30.0 + 2 * done for done in batches(10))]
    assert middle_per_s(halves) < 0.8 * PER_BATCH / BATCH_S


@pytest.mark.parametrize(
    ("engine", "workers", "cases"),
    [
        ("fake", [1, 3], [("equal", 1), ("1:2:4", 1), ("equal", 3), ("1:2:4", 3)]),
        ("hf", [1, 3], [("equal", 1)]),
        ("hf", [3], []),
    ],
)
def test_a_real_model_has_one_case_of_those_asked_for(engine: str, workers: list[int], cases: list[tuple[str, int]]) -> None:
    options = Namespace(workers=workers, weights=["equal", "1:2:4"])
    assert cases_of(kinds(4000.0)[engine], options) == cases
