"""When a busy engine is sent its next call: never more than the look-ahead before it is idle, and not after it is idle."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor_serving.scheduler.pace import SAMPLES, Pace

AHEAD_S = 0.05
COSTS = st.lists(st.floats(1.0, 8192.0), min_size=1, max_size=40)


def timed(s_per_cost: float, cost: float = 1000.0, *, limit: int = 2) -> Pace:
    """A pace that has seen one engine call by itself."""
    pace = Pace(limit, AHEAD_S)
    pace.begun(0, cost, 0.0)
    pace.ended(0, cost * s_per_cost, finished=True)
    return pace


@given(costs=COSTS, s_per_cost=st.floats(1e-6, 1e-2))
def test_an_engine_of_even_pace_is_sent_each_call_one_look_ahead_before_it_is_idle(costs: list[float], s_per_cost: float) -> None:
    """Virtual time, always work: the engine has the next call when it ends one, and had it for no longer than the look-ahead."""
    pace, now_s = timed(s_per_cost), 0.0
    pace.begun(1, 500.0, now_s)
    ends_s = now_s + 500.0 * s_per_cost
    for call, cost in enumerate(costs, 2):
        pause_s = pace.pause_s(now_s)
        assert pause_s is not None
        sent_s = now_s + pause_s
        assert sent_s <= ends_s + 1e-9
        assert ends_s - sent_s <= AHEAD_S + 1e-9
        pace.begun(call, cost, sent_s)
        assert pace.pause_s(sent_s) is None
        pace.ended(call - 1, ends_s, finished=True)
        now_s, ends_s = ends_s, ends_s + cost * s_per_cost


@given(
    costs=COSTS,
    paces=st.lists(st.floats(0.0, 1e-2), min_size=40, max_size=40),
    limit=st.integers(1, 4),
    finished=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_whatever_the_engine_does_its_calls_stay_within_the_limit_and_it_is_never_left_idle(
    costs: list[float], paces: list[float], limit: int, finished: list[bool]
) -> None:
    pace, now_s, open_calls = Pace(limit, AHEAD_S), 0.0, list[int]()
    for call, cost in enumerate(costs):
        while (pause_s := pace.pause_s(now_s)) is None:
            now_s += costs[open_calls[0]] * paces[open_calls[0]]
            pace.ended(open_calls.pop(0), now_s, finished=finished[call])
        assert 0.0 <= pause_s < math.inf
        assert open_calls or pause_s == 0.0
        assert len(open_calls) < limit
        pace.begun(call, cost, now_s + pause_s)
        now_s += pause_s
        open_calls.append(call)


def test_an_engine_that_nobody_has_timed_is_sent_one_call_at_a_time() -> None:
    pace = Pace(2, AHEAD_S)
    assert pace.pause_s(0.0) == 0.0
    pace.begun(0, 10.0, 0.0)
    assert pace.pause_s(100.0) is None


def test_calls_shorter_than_the_look_ahead_are_sent_two_at_once() -> None:
    pace = timed(1e-5)
    pace.begun(1, 4000.0, 1.0)
    assert pace.pause_s(1.0) == 0.0


def test_a_call_that_takes_longer_than_expected_is_followed_at_once() -> None:
    pace = timed(1e-3)
    pace.begun(1, 1000.0, 1.0)
    assert pace.pause_s(1.2) == pytest.approx(0.75)
    assert pace.pause_s(5.0) == 0.0


def test_what_failed_or_was_overtaken_says_nothing_of_the_pace() -> None:
    pace = timed(1e-3, limit=3)
    pace.begun(1, 1000.0, 1.0)
    pace.begun(2, 1000.0, 1.0)
    pace.ended(2, 1.01, finished=True)
    pace.ended(1, 1.02, finished=False)
    assert pace.s_per_cost == pytest.approx(1e-3)


def test_a_few_slow_calls_do_not_leave_the_engine_waiting() -> None:
    pace = Pace(2, AHEAD_S)
    now_s = 0.0
    for call in range(SAMPLES):
        pace.begun(call, 1000.0, now_s)
        now_s += 30.0 if call % 3 == 0 else 1.0
        pace.ended(call, now_s, finished=True)
    assert pace.s_per_cost == pytest.approx(1e-3)
