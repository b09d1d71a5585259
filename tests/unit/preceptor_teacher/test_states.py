"""The state store finds what a plain search over everything finds, and stays within its bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preceptor_teacher.engines.hf.states import MIN_SHARED_TOKENS, StateStore, shared_prefix


@dataclass(frozen=True)
class Named:
    """Keys and values that only know whose they are and how long."""

    name: str
    tokens: int

    def first(self, tokens: int) -> Named:
        return Named(self.name, tokens)


def ids_of(*parts: tuple[int, int]) -> np.ndarray:
    """(token, how often) after each other."""
    return np.concatenate([np.full(count, token, np.uint32) for token, count in parts])


def put(store: StateStore, scope: str, task: str, ids: np.ndarray) -> None:
    store.put((scope, task), ids, Named(task, len(ids)))  # pyright: ignore[reportArgumentType]


# Few tokens and round lengths, so that prefixes are often shared and often end at the limit.
lengths = st.sampled_from([1, 8, MIN_SHARED_TOKENS - 1, MIN_SHARED_TOKENS, MIN_SHARED_TOKENS + 1, 40])
sequences = st.lists(st.tuples(st.integers(0, 1), lengths), min_size=1, max_size=3).map(lambda parts: ids_of(*parts))
tasks = st.tuples(st.sampled_from(["job", "other"]), st.sampled_from("abcde"))


@given(st.lists(st.tuples(tasks, sequences), max_size=12), tasks, sequences)
def test_it_finds_the_longest_prefix_that_a_search_over_everything_finds(puts, key, ids):
    store, known = StateStore(10_000), {}
    for (scope, task), one in puts:
        put(store, scope, task, one)
        known[scope, task] = one
    own = shared_prefix(known[key], ids) if key in known else 0
    others = [shared_prefix(one, ids) for (scope, task), one in known.items() if scope == key[0] and (scope, task) != key]
    expected = max([own, *(shared for shared in others if shared >= MIN_SHARED_TOKENS)], default=0)
    found = store.find(key, ids)
    assert (found.tokens if found else 0) == expected


@given(st.lists(st.tuples(tasks, sequences), max_size=30), st.integers(1, 200))
def test_it_never_holds_more_than_its_bound_and_forgets_what_it_drops(puts, max_tokens):
    store = StateStore(max_tokens)
    for (scope, task), one in puts:
        put(store, scope, task, one)
        assert store.tokens <= max_tokens
    for key in {key for key, _ in puts}:
        store.drop(key)
    assert (len(store), store.tokens) == (0, 0)
    assert all(store.find(key, one) is None for key, one in puts)


def test_a_grid_cuts_to_whole_cells():
    store = StateStore(1000)
    put(store, "job", "a", ids_of((1, 70)))
    found = store.find(("job", "b"), ids_of((1, 50), (2, 9)), grid=32)
    assert (found.name, found.tokens) == ("a", 32)
