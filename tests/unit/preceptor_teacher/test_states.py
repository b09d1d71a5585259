"""The state store finds what a plain search over everything finds and stays within its bound; batches are padded little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preceptor.types import Sequence, Want
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.engines.hf import create
from preceptor_teacher.engines.hf.forward import Piece
from preceptor_teacher.engines.hf.states import MIN_SHARED_TOKENS, StateStore, shared_prefix
from preceptor_teacher.engines.hf.work import FULL_TOKENS, PADDING_SHARE, batches
from preceptor_teacher.growing import Growth
from tests.support.models import TOKENS


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


def test_the_least_recently_used_state_goes_first_and_one_that_was_found_counts_as_used():
    store, ids = StateStore(100), {name: ids_of((number, 30)) for number, name in enumerate("abcd")}
    for name in "abc":
        put(store, "job", name, ids[name])
    assert store.find(("job", "a"), ids["a"]) is not None  # b is the oldest now
    put(store, "job", "d", ids["d"])
    assert {name for name in "abcd" if store.find(("job", name), ids[name])} == set("acd")
    put(store, "job", "b", ids_of((9, 60)))  # needs 60 of 100: of a, c and d, used in this order, the first two go
    assert {name for name in "acd" if store.find(("job", name), ids[name])} == {"d"}
    assert store.tokens == 90


def test_a_state_beyond_the_bound_is_not_kept_and_drives_out_nobody_but_its_own_older_one():
    store = StateStore(50)
    for name in "ab":
        put(store, "job", name, ids_of((1, 20)))
    put(store, "job", "a", ids_of((2, 51)))
    assert (len(store), store.tokens) == (1, 20)
    assert store.find(("job", "b"), ids_of((1, 20))) is not None


def test_what_is_kept_is_bounded_in_bytes_by_the_tokens(llama_folder, rng):
    """Keys and values of a token have one size, and a state holds no more storage than its own tokens need."""
    engine = create({"name": "m", "folder": llama_folder, "state_tokens": 100})
    states, config = engine._scorers[0]._states, engine._scorers[0].model.config
    heads, head_size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    token_bytes = config.num_hidden_layers * 2 * heads * head_size * 4
    for number in range(6):
        batch = [Sequence.of(rng.integers(0, TOKENS, n), rng.integers(0, TOKENS, 5)) for n in rng.integers(20, 60, 3)]
        growths = [Growth("s", f"{number}.{i}", open=True) for i in range(len(batch))]
        engine.score_growing([ScoreItem(one, Want(sampled=True)) for one in batch], growths)
        assert 0 < _storage_bytes(states) <= states.tokens * token_bytes <= 100 * token_bytes


def _storage_bytes(store: StateStore) -> int:
    """Of the memory behind the tensors, not of the views that they may be."""
    tensors = [one for state in store._states.values() for pair in state.key_values.layers for one in pair]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.sampled_from([64, 1024, 8192]))
def test_batches_hold_everybody_once_and_a_full_one_is_padded_by_a_tenth_at_most(lengths, budget):
    items = [Sized(Piece(np.zeros(length, np.uint32))) for length in lengths]
    packed = list(batches(items, budget))
    assert sorted(id(one) for batch in packed for one in batch) == sorted(id(one) for one in items)
    for batch in packed:
        sizes = [len(one.piece.ids) for one in batch]
        assert len(batch) == 1 or len(batch) * max(sizes) <= budget
        if sum(sizes[:-1]) >= FULL_TOKENS:  # full before its longest came
            assert 1 - sum(sizes) / (len(sizes) * max(sizes)) <= PADDING_SHARE


def test_a_batch_of_ordinary_lengths_is_padded_by_less_than_a_tenth_in_all(rng):
    lengths = rng.integers(30, 300, 256)
    packed = list(batches([Sized(Piece(np.zeros(length, np.uint32))) for length in lengths], 8192))
    padded = sum(len(batch) * max(len(one.piece.ids) for one in batch) for batch in packed)
    assert 1 - int(lengths.sum()) / padded <= PADDING_SHARE
    assert len(packed) < len(lengths) / 4


@dataclass(frozen=True, eq=False)
class Sized:
    """What `batches` asks of a work."""

    piece: Piece


def test_a_task_that_only_found_another_s_cells_keeps_no_part_of_them(engine):
    """A view of 32 tokens would keep all of the other's tensors in memory after the store has forgotten them."""
    tokens, want = [n % 61 for n in range(130)], Want(sampled=True, deterministic=True)
    for name, length in (("long", 130), ("short", 40)):
        item = ScoreItem(Sequence.of(tokens[:35], tokens[35:length]), want)
        [scored] = engine.score_growing([item], [Growth("job", name, open=False)])
    assert scored.receipt.tokens_reused == 32
    store = engine._scorers[0]._states
    tensors = [tensor for state in store._states.values() for layer in state.key_values.layers for tensor in layer]
    assert all(one.untyped_storage().nbytes() == one.numel() * one.element_size() for one in tensors)
    assert store.tokens == 128
