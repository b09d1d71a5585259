"""The circuit breaker as a state machine: what opens and closes it, and that one request at a time tries an open one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preceptor_teacher.api.breaker import LONGEST, Breaker, Circuit

OPEN_S = 5.0


def failing(breaker: Breaker, now_s: float = 0.0, times: int = 3) -> Breaker:
    for _ in range(times):
        assert breaker.wait_s(now_s) == 0.0
        breaker.told(breaker.era, good=False, now_s=now_s)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    breaker = Breaker(3, OPEN_S)
    for good in (False, False, True, False, False):
        breaker.told(breaker.era, good=good, now_s=0.0)
    assert breaker.state is Circuit.CLOSED
    breaker.told(breaker.era, good=False, now_s=0.0)
    assert (breaker.state, breaker.opened, breaker.wait_s(1.0)) == (Circuit.OPEN, 1, 4.0)


def test_one_trial_is_let_through_and_its_success_closes():
    breaker = failing(Breaker(3, OPEN_S))
    assert breaker.look_s(5.0) == 0.0
    assert breaker.state is Circuit.OPEN, "looking changes nothing"
    assert breaker.wait_s(5.0) == 0.0
    assert (breaker.state, breaker.wait_s(5.0) > 0, breaker.wait_s(500.0) > 0) == (Circuit.HALF_OPEN, True, True)
    breaker.told(breaker.era, good=True, now_s=6.0)
    assert (breaker.state, breaker.closed, breaker.wait_s(6.0)) == (Circuit.CLOSED, 1, 0.0)
    failing(breaker, 6.0)
    assert breaker.wait_s(6.0) == OPEN_S, "the wait begins anew"


def test_each_trial_that_fails_doubles_the_wait_up_to_a_bound():
    breaker, now_s, waits = failing(Breaker(3, OPEN_S)), 0.0, []
    for _ in range(6):
        waits.append(breaker.wait_s(now_s))
        now_s += waits[-1]
        assert breaker.wait_s(now_s) == 0.0
        breaker.told(breaker.era, good=False, now_s=now_s)
    assert waits == [OPEN_S * min(LONGEST, 2.0**n) for n in range(6)]


def test_what_was_sent_before_it_opened_neither_closes_nor_feeds_it():
    breaker = Breaker(3, OPEN_S)
    old = breaker.era
    failing(breaker)
    breaker.told(old, good=True, now_s=1.0)
    assert breaker.state is Circuit.OPEN
    assert breaker.wait_s(5.0) == 0.0
    breaker.told(old, good=True, now_s=5.0)
    breaker.told(old, good=False, now_s=5.0)
    assert breaker.state is Circuit.HALF_OPEN


def test_a_trial_that_was_given_up_is_due_again_at_once():
    breaker = failing(Breaker(3, OPEN_S))
    assert breaker.wait_s(5.0) == 0.0
    breaker.left(breaker.era, 5.5)
    assert breaker.wait_s(5.5) == 0.0


@given(st.lists(st.tuples(st.sampled_from(["ask", "good", "bad", "left"]), st.floats(0, 20)), max_size=80))
def test_whatever_happens_at_most_one_request_is_under_way_while_it_is_not_closed(steps):
    breaker, now_s, flying = Breaker(2, OPEN_S), 0.0, []
    for what, pause_s in steps:
        now_s += pause_s
        if what == "ask":
            if breaker.wait_s(now_s) == 0.0:
                flying.append(breaker.era)
        elif flying and what == "left":
            breaker.left(flying.pop(), now_s)
        elif flying:
            breaker.told(flying.pop(), good=what == "good", now_s=now_s)
        trials = [era for era in flying if era == breaker.era]
        if breaker.state is Circuit.HALF_OPEN:
            assert len(trials) == 1
        if breaker.state is Circuit.OPEN:
            assert not trials
