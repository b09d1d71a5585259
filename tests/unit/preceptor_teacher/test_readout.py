"""Readout: every signal equals the float64 oracle, for any mix of signals, chunking, ties, padding and dtype of the head."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.types import RaggedIds, TailOf
from preceptor_serving.models.topk import topk_lowest_id
from preceptor_teacher.readout import Head, RowSpec, Signals, readout
from preceptor_teacher.readout.reduce import CPU_BLOCK_COLUMNS, mass_and_entropy_of, mass_of
from preceptor_teacher.readout.spec import NO_TARGET
from tests.reference import readout_oracle as oracle

BOUND = 2e-5


def read(*inputs: Any, **options: Any) -> Any:
    """The readout; a column that was not asked for is no attribute error waiting to be checked, but a failed test."""
    return readout(*inputs, **options)


def make_head(rows: int, width: int, padded: int, *, dtype=torch.float32, seed=0, **options) -> Head:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows + padded, width, generator=rng).to(dtype)
    return Head(weight, tokenizer_size=rows, **options)


def expected_log_probs(states, head: Head, temperature: float):
    bias = 0.0 if head.bias_v is None else head.bias_v.double().numpy()
    raw = oracle.logits(states.double().numpy(), head.weight_vh.double().numpy(), bias, head.scale, head.soft_cap)
    return [oracle.log_softmax(row, temperature) for row in raw]


@st.composite
def cases(draw):
    """A head, states, and any mix of signals over them."""
    tokens, padded, rows = draw(st.integers(2, 40)), draw(st.sampled_from([0, 0, 3])), draw(st.integers(1, 9))
    ids = st.integers(0, tokens - 1)
    lists = st.lists(st.lists(ids, max_size=6), min_size=rows, max_size=rows)  # duplicates and empty lists included
    signals = Signals(
        sampled=draw(st.booleans()),
        topk=draw(st.sampled_from([0, 1, 2, tokens // 2, tokens])),
        entropy=draw(st.booleans()),
        tail=draw(st.sampled_from(TailOf)),
        samples=draw(st.sampled_from([0, 1, 5])),
        temperature=draw(st.sampled_from([1.0, 0.3, 2.5])),
    )
    spec = RowSpec(
        signals,
        targets=np.array(draw(st.lists(ids | st.just(NO_TARGET), min_size=rows, max_size=rows)), np.int64),
        candidates=RaggedIds.from_rows(draw(lists)) if draw(st.booleans()) else None,
        seeds=np.full(rows, draw(st.integers(0, 2**64 - 1)), np.uint64),
        rows=np.arange(rows) + draw(st.integers(0, 1000)),
    )
    options = {"soft_cap": draw(st.sampled_from([None, 1.5])), "scale": draw(st.sampled_from([1.0, 0.25]))}
    if draw(st.booleans()):
        options["bias_v"] = torch.linspace(-1, 1, tokens + padded)
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    head = make_head(tokens, 8, padded, dtype=dtype, seed=draw(st.integers(0, 99)), **options)
    states = torch.randn(rows, 8, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    return head, states.to(dtype), spec, draw(st.sampled_from([None, 1, 2, 4]))


@settings(max_examples=250, deadline=None)
@given(cases())
def test_every_signal_equals_the_float64_oracle(case):
    head, states, spec, chunk_rows = case
    got, signals = read(states, head, spec, chunk_rows=chunk_rows), spec.signals
    for r, log_probs in enumerate(expected_log_probs(states, head, signals.temperature)):
        listed: dict[str, set[int]] = {"topk": set(), "candidates": set(), "samples": set(), "sampled": set()}
        if got.topk is not None:
            check_topk(log_probs, got.topk.ids[r], got.topk.logprobs[r], signals.topk, head.tokenizer_size)
            listed["topk"] = set(got.topk.ids[r].tolist())
        if got.candidates is not None:
            ids = spec.candidates.row(r)
            assert got.candidates[slice(*spec.candidates.offsets[r : r + 2])] == pytest.approx(log_probs[ids], abs=BOUND)
            listed["candidates"] = set(ids.tolist())
        if got.samples is not None:
            assert got.samples.ids[r].tolist() == expected_samples(spec, r, log_probs, head)
            assert got.samples.logprobs[r] == pytest.approx(log_probs[got.samples.ids[r]], abs=BOUND)
            listed["samples"] = set(got.samples.ids[r].tolist())
        if got.sampled is not None:
            check_sampled(got.sampled[r], spec.targets[r], log_probs)
            listed["sampled"] = {int(spec.targets[r])} - {NO_TARGET}
        if got.entropy is not None:
            assert got.entropy[r] == pytest.approx(oracle.entropy(log_probs), abs=BOUND)
        if got.tail is not None:
            assert got.tail[r] == pytest.approx(oracle.tail(log_probs, outside_of(signals.tail, listed)), abs=BOUND)
    assert unwanted(got, signals, spec)


def outside_of(tail: TailOf, listed: dict[str, set[int]]) -> set[int]:
    if tail is TailOf.UNION:
        return set().union(*listed.values())
    return listed["topk" if tail is TailOf.TOPK else "candidates"]


def check_topk(log_probs, ids, values, k, tokenizer_size):
    """Exactly the oracle's values; ids may differ only where f32 cannot tell the values apart."""
    assert len(set(ids.tolist())) == k
    assert max(ids) < tokenizer_size
    assert values == pytest.approx(log_probs[ids], abs=BOUND)
    assert values == pytest.approx(log_probs[oracle.topk(log_probs, k, tokenizer_size)], abs=BOUND)
    falls = np.diff(values)
    assert (falls <= 0).all()
    assert (np.diff(ids.astype(int))[falls == 0] > 0).all()


def check_sampled(value, target, log_probs):
    assert math.isnan(value) if target == NO_TARGET else value == pytest.approx(log_probs[target], abs=BOUND)


def expected_samples(spec, r, log_probs, head):
    return oracle.samples(log_probs, int(spec.seeds[r]), int(spec.rows[r]), spec.signals.samples, head.tokenizer_size)


def unwanted(got, signals, spec):
    """Nothing is returned that was not asked for."""
    asked = {
        "sampled": signals.sampled,
        "topk": bool(signals.topk),
        "candidates": spec.candidates is not None,
        "entropy": signals.entropy,
        "tail": signals.tail is not TailOf.NONE,
        "samples": bool(signals.samples),
    }
    return all((getattr(got, name) is not None) == wanted for name, wanted in asked.items())


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 400).flatmap(
        lambda width: st.tuples(
            st.lists(st.lists(st.integers(-6, 3), min_size=width, max_size=width), min_size=1, max_size=3),
            st.integers(1, min(width, 24)),
        )
    )
)
def test_ties_go_to_the_lower_id_on_both_paths(case):
    rows, k = case
    values, ids = topk_lowest_id(torch.tensor(rows, dtype=torch.float32), k)
    for row, got_values, got_ids in zip(rows, values.tolist(), ids.tolist(), strict=True):
        assert got_ids == sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
        assert got_values == [row[i] for i in got_ids]


def test_a_wide_row_is_searched_in_blocks_and_stays_exact():
    values = torch.randn(7, 50_021, generator=torch.Generator().manual_seed(3))
    values[2] = -torch.inf
    values[2, 49_999] = 0.0  # ids of equal entries after it: -inf ties, lowest ids first
    values[3, 10:400] = 9.0
    got, ids = topk_lowest_id(values, 64)
    order = values.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(got, order.values[:, :64])
    assert torch.equal(ids, order.indices[:, :64])


@pytest.mark.parametrize("columns", [1, CPU_BLOCK_COLUMNS - 1, CPU_BLOCK_COLUMNS, 2 * CPU_BLOCK_COLUMNS + 5])
def test_sums_over_blocks_of_columns_are_those_of_the_whole_row(columns):
    rows = 3 * torch.randn(6, columns, generator=torch.Generator().manual_seed(2))
    rows[1, 1:] = -torch.inf
    rows[3] += 1e4
    rows[4] -= 1e4  # a row whose mass underflows unless it is taken relative to its peak
    exact = rows.double().log_softmax(-1)
    mass, entropy = mass_and_entropy_of(rows)
    for one in (mass, mass_of(rows)):
        assert torch.allclose(one.log_probs(rows).double(), exact, rtol=1e-6, atol=1e-6)
    assert entropy.tolist() == pytest.approx([oracle.entropy(row) for row in exact.numpy()], abs=1e-5)


def test_a_row_without_any_mass_has_a_share_of_nothing():
    whole, rest = torch.tensor([[2.0, 1.0]]), torch.tensor([[-torch.inf, -torch.inf]])
    assert mass_of(rest).log_share_of(mass_of(whole)).tolist() == [-torch.inf]


def test_a_large_peak_rounds_no_log_probability():
    """Near logits of 1000 an f32 is 6e-5 wide, and so is a log-sum-exp; differences of logits are exact."""
    head = Head(torch.tensor([[1000.0], [999.5], [998.0]]), tokenizer_size=3)
    got = read(torch.ones(1, 1), head, RowSpec(Signals(True, 3, True, TailOf.UNION), np.array([1])))
    exact = torch.tensor([1000.0, 999.5, 998.0], dtype=torch.float64).log_softmax(-1).numpy()
    assert got.topk.logprobs[0] == pytest.approx(exact, abs=3e-7)
    assert got.entropy[0] == pytest.approx(oracle.entropy(exact), abs=3e-7)


def test_the_tail_keeps_what_a_subtraction_loses():
    """Almost all mass is listed: the rest is e^-30, far below what 1 - sum(p) can hold in f32."""
    head = Head(torch.tensor([[0.0], [-30.0], [-31.0]]), tokenizer_size=3)
    got = read(torch.ones(1, 1), head, RowSpec(Signals(topk=1, tail=TailOf.TOPK), np.array([0])))
    assert got.tail[0] == pytest.approx(math.log(math.exp(-30) + math.exp(-31)), abs=1e-5)


def test_nothing_remains_outside_the_whole_vocabulary_but_padding_does():
    states = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    spec = RowSpec(Signals(topk=6, tail=TailOf.UNION), np.zeros(3, np.int64))
    assert (read(states, make_head(6, 4, 0), spec).tail == -np.inf).all()
    padded = read(states, make_head(6, 4, 2), spec)
    assert np.isfinite(padded.tail).all()
    assert np.exp(padded.topk.logprobs).sum(1) + np.exp(padded.tail) == pytest.approx(1.0, abs=1e-5)


def test_impossible_tokens_keep_probability_zero_and_a_finite_entropy():
    weight, bias = torch.zeros(4, 2), torch.tensor([0.0, 0.0, -torch.inf, -torch.inf])
    got = read(torch.ones(1, 2), Head(weight, 4, bias_v=bias), RowSpec(Signals(True, 4, True, TailOf.TOPK), np.array([2])))
    assert got.topk.logprobs[0].tolist() == pytest.approx([-math.log(2), -math.log(2), -math.inf, -math.inf])
    assert (got.sampled[0], got.tail[0]) == (-math.inf, -math.inf)
    assert got.entropy[0] == pytest.approx(math.log(2))


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 5e-324, 1000.0])
def test_the_coldest_and_hottest_temperatures_stay_numbers(temperature):
    head = make_head(6, 4, 0)
    states = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    signals = Signals(True, 6, True, TailOf.TOPK, 2, temperature)
    got = read(states, head, RowSpec(signals, np.zeros(3, np.int64), None, np.zeros(3, np.uint64), np.arange(3)))
    assert not np.isnan(np.concatenate([got.topk.logprobs.ravel(), got.entropy, got.sampled])).any()
    assert np.exp(got.topk.logprobs).sum(1) == pytest.approx(1.0, abs=1e-6)
    if temperature < 1:
        assert (got.topk.logprobs[:, 0] == 0).all()
        assert (got.samples.ids == got.topk.ids[:, :1]).all()


def test_draws_follow_the_distribution():
    head = Head(torch.log(torch.tensor([[0.5], [0.25], [0.125], [0.125]])), tokenizer_size=3)
    rows, draws = 500, 16
    spec = RowSpec(Signals(samples=draws), np.zeros(rows, np.int64), None, np.full(rows, 5, np.uint64), np.arange(rows))
    ids = read(torch.ones(rows, 1), head, spec).samples.ids
    share = np.bincount(ids.ravel(), minlength=4) / ids.size
    given_real = np.array([4, 2, 1]) / 7
    assert share[3] == 0
    assert np.abs(share[:3] - given_real).max() < 4 * math.sqrt(0.25 / ids.size)


def test_no_rows_give_empty_columns():
    spec = RowSpec(Signals(True, 2, True, TailOf.UNION), np.zeros(0, np.int64), RaggedIds.from_rows([]))
    got = read(torch.zeros(0, 4), make_head(6, 4, 0), spec)
    assert (len(got.sampled), got.topk.ids.shape, len(got.candidates), len(got.tail)) == (0, (0, 2), 0, 0)


def test_equal_heads_share_a_digest_and_a_changed_one_does_not():
    one, other = make_head(6, 4, 0), make_head(6, 4, 0)
    assert one.sha256() == other.sha256() != make_head(6, 4, 0, soft_cap=2.0).sha256()
    other.weight_vh[3, 2] += 1e-3
    assert one.sha256() != other.sha256()
