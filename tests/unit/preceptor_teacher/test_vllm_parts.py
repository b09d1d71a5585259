"""The parts of the vllm engine that need no vLLM: what is kept of a request's states, and which sessions are."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError
from preceptor_serving.engines.registry import create_engine
from preceptor_teacher.engines.vllm.readings import Read, Reading, Spent, read_of
from preceptor_teacher.engines.vllm.sessions import Session, Sessions

WIDTH = 3
HAS_VLLM = importlib.util.find_spec("vllm") is not None


def states(start: int, stop: int) -> torch.Tensor:
    return torch.arange(start, stop, dtype=torch.float32)[:, None].expand(-1, WIDTH).clone()


class Params:
    def __init__(self, extra_args) -> None:
        self.extra_args = extra_args


def test_a_read_travels_in_the_requests_parameters():
    read = Read(7, 3, 9)
    assert read_of(Params(read.extra_args())) == read
    assert read_of(Params(None)) is None
    assert read_of(Params({"theirs": 1})) is None


@given(data=st.data(), first=st.integers(0, 20), count=st.integers(1, 20), start=st.integers(0, 20))
def test_states_are_whole_whatever_pieces_they_came_in(data: st.DataObject, first: int, count: int, start: int):
    last = first + count
    begin = min(start, first)
    cuts = sorted(data.draw(st.sets(st.integers(begin, last - 1))) | {begin, last})
    reading = Reading(Read(1, first, last))
    for at, until in itertools.pairwise(cuts):
        assert reading.missing > 0
        reading.add(at, states(at, until))
    assert reading.missing == 0
    assert reading.spent == Spent(last - begin, begin)
    wanted = np.arange(first, last)[::-1].copy()
    assert reading.at(wanted)[:, 0].tolist() == wanted.tolist()


def test_states_that_a_cache_hid_are_counted_as_missing():
    reading = Reading(Read(1, 4, 10))
    reading.add(6, states(6, 10))
    assert reading.missing == 2
    assert Reading(Read(1, 4, 10)).missing == 6


def test_what_a_preemption_computes_again_is_there_once_and_paid_twice():
    reading = Reading(Read(1, 2, 6))
    reading.add(0, states(0, 4))
    reading.add(0, states(0, 6))
    assert (reading.missing, reading.spent) == (0, Spent(10, 0))


@pytest.mark.parametrize(
    ("ids", "first_state", "leads"),
    [
        ([1, 2, 3, 4], 3, True),
        ([1, 2, 3, 4], 4, True),
        ([1, 2, 3, 4], 2, False),  # the state of token 2 was read before, and is gone
        ([1, 2, 3], 3, False),  # nothing new
        ([1, 2], 3, False),
        ([1, 9, 3, 4], 3, False),
    ],
)
def test_a_session_leads_only_to_its_own_continuation(ids: list[int], first_state: int, leads: bool):
    session = Session("r1", np.array([1, 2, 3], np.uint32))
    assert session.leads_to(np.array(ids, np.uint32), first_state) is leads


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=30))
def test_sessions_stay_within_their_bounds_and_the_oldest_goes_first(steps: list[tuple[int, int]]):
    sessions, order = Sessions(3, 20), []
    for name, tokens in steps:
        key = ("scope", str(name))
        replaced = sessions.take(key)
        assert (replaced is not None) == (name in order)
        order = [other for other in order if other != name] + [name]
        sessions.put(key, Session(f"r{name}", np.zeros(tokens, np.uint32)))
        for session in sessions.surplus():
            assert session.request_id == f"r{order.pop(0)}"
        assert len(sessions) == len(order) <= 3
        assert sessions.tokens <= 20
    for name in order:
        assert sessions.oldest().request_id == f"r{name}"
    assert sessions.tokens == len(sessions) == 0


def test_a_borrowed_state_is_that_of_the_token_before():
    lender, borrower = Reading(Read(1, 4, 8)), Reading(Read(2, 5, 7))
    lender.add(0, states(0, 8))
    borrower.add(5, states(5, 7) + 100)
    borrower.borrow(lender)
    assert borrower.missing == 0
    assert borrower.at(np.array([4, 5, 6]))[:, 0].tolist() == [4, 105, 106]


def test_nothing_is_borrowed_from_a_request_that_is_short_itself():
    lender, borrower = Reading(Read(1, 4, 8)), Reading(Read(2, 5, 7))
    lender.add(6, states(6, 8))
    borrower.add(5, states(5, 7))
    borrower.borrow(lender)
    assert borrower.read.first == 5


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed here")
def test_without_vllm_the_engine_is_refused_with_what_to_install():
    with pytest.raises(ConfigurationError, match="not installed") as refused:
        create_engine("vllm", {"name": "t", "folder": "x"})
    assert "preceptor[vllm]" in refused.value.hint
