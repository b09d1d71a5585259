"""Draws: the published known answers, agreement with the plain reference, and independence of how they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument
from preceptor.philox import philox4x32, rollout_uniform, teacher_uniform, uniform_from_words
from tests.reference import philox as reference

WORD = st.integers(0, 2**32 - 1)
SEED = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known-answer file of the Random123 distribution, philox4x32 with 10 rounds
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter, key, expected):
    assert philox4x32(tuple(counter), key[0] | key[1] << 32).tolist() == expected


@given(SEED, WORD, WORD, st.lists(WORD, min_size=1, max_size=5), WORD)
def test_rollout_draws_are_the_references(seed, step, prompt, samples, position):
    ours = rollout_uniform(seed, step, prompt, np.array(samples), position)
    assert np.array_equal(ours, reference.uniform(seed, step, prompt, samples, position))


@given(st.lists(st.tuples(SEED, WORD), min_size=1, max_size=6), st.integers(1, 9))
def test_a_row_draws_the_same_alone_and_among_others_and_fewer_draws_are_a_prefix(rows, draws):
    seeds, indices = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    together = teacher_uniform(seeds, indices, draws)
    for one, (seed, row) in zip(together, rows, strict=True):
        assert np.array_equal(one, teacher_uniform(seed, row, draws))
        assert np.array_equal(one[: draws // 2], teacher_uniform(seed, row, draws // 2))


def test_a_number_has_53_bits_and_never_reaches_one():
    words = np.array([[0, 0, 0, 0], [0xFFFFFFFF] * 4, [0, 1 << 11, 0, 0]], np.uint32)
    assert uniform_from_words(words).tolist() == [0.0, 1 - 2.0**-53, 2.0**-53]


def test_teachers_and_runs_of_one_seed_draw_apart():
    assert not np.intersect1d(teacher_uniform(7, np.arange(100), 4), rollout_uniform(7, 0, 0, np.arange(400), 0)).size


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: rollout_uniform(-1, 0, 0, 0, 0), "seed"),
        (lambda: rollout_uniform(1 << 64, 0, 0, 0, 0), "seed"),
        (lambda: rollout_uniform(0, 0, 0, 0, 1 << 32), "counter[0]"),
        (lambda: rollout_uniform(0, 0, 0, -1, 0), "counter[1]"),
        (lambda: rollout_uniform(0, 0, 0.5, 0, 0), "counter[2]"),
        (lambda: teacher_uniform(np.array([-1]), 0, 1), "seed"),
    ],
)
def test_what_is_no_word_or_seed_is_refused_by_name(call, field):
    with pytest.raises(InvalidArgument) as refused:
        call()
    assert refused.value.field == field
