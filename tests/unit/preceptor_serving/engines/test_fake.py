"""What FakeEngine does beyond the engine contract: modelled time, staged failures, memory, options."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError, Corrupt
from preceptor.types import ModelRef, Scored, Sequence, Want
from preceptor_serving.engines.fake import FakeEngine, FakeModel, FakeOptions, create
from preceptor_serving.engines.fake.readout import Table
from preceptor_serving.engines.protocol import ScoreItem


def item(*response: int) -> ScoreItem:
    return ScoreItem(Sequence.of([1, 2], response), Want(sampled=True))


def test_time_is_modelled_and_can_be_virtual() -> None:
    slept: list[float] = []
    engine = FakeEngine(FakeOptions(load_s=3.0, tokens_per_s=100.0, rows_per_s=10.0), sleep=slept.append)
    [outcome] = engine.score([item(3, 4)])
    assert slept == pytest.approx([3.0, 4 / 100 + 2 / 10])
    assert (outcome.receipt.time.prefill_s, outcome.receipt.time.readout_s) == pytest.approx((0.04, 0.2))


def test_failures_are_staged_by_token_and_by_call() -> None:
    died: list[bool] = []
    options = FakeOptions(refuse_token=50, defect_token=51, crash_token=52, crash_on_call=4)
    engine = FakeEngine(options, die=lambda: died.append(True))
    refused, fine = engine.score([item(50), item(3)])
    assert isinstance(refused, Corrupt)
    assert isinstance(fine, Scored)
    with pytest.raises(RuntimeError, match="staged defect"):
        engine.score([item(3), item(51)])
    engine.score([item(52)])
    assert died == [True]
    engine.score([item(3)])
    assert died == [True, True]


def test_calls_are_remembered() -> None:
    engine = create({})
    engine.score([item(3), item(4)])
    engine.score([item(5)])
    assert [[int(i.sequence.response_ids[0]) for i in batch] for batch in engine.calls] == [[3, 4], [5]]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sped": 1}, "sped"),
        ({"tokenizer_size": 65}, "tokenizer_size"),
        ({"states": 1 << 40}, "states"),
        ({"fail_to_load": True}, "fail_to_load"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        create(options)
    assert caught.value.field == field


@given(st.lists(st.integers(0, 60), max_size=20), st.integers(0, 2**32))
def test_the_state_depends_on_the_whole_prefix_and_on_nothing_after_it(tokens: list[int], seed: int) -> None:
    model = FakeModel(seed, states=512, head_rows=64, tokenizer_size=61)
    ids = np.array(tokens, np.uint32)
    cuts = np.arange(len(ids) + 1)
    together = model.state_after(ids, cuts)
    alone = [int(model.state_after(ids[:cut], np.array([cut]))[0]) for cut in cuts]
    assert together.tolist() == alone


def test_states_spread_over_the_automaton() -> None:
    model = FakeModel(0, states=64, head_rows=8, tokenizer_size=8)
    prefixes = np.random.default_rng(0).integers(0, 8, (2000, 12)).astype(np.uint32)
    counts = np.bincount([int(model.state_after(ids, np.array([12]))[0]) for ids in prefixes], minlength=64)
    assert counts.min() > 0
    assert ((counts - 2000 / 64) ** 2 / (2000 / 64)).sum() < 63 + 5 * (2 * 63) ** 0.5  # chi-square, five sigma


@given(st.floats(min_value=1e-300, max_value=1000))
def test_every_temperature_gives_a_distribution(temperature: float) -> None:
    table = Table(FakeModel(1, states=16, head_rows=32, tokenizer_size=32), temperature)
    np.testing.assert_allclose(np.exp(table.logprobs_SV.astype(np.float64)).sum(-1), 1.0, atol=1e-5)
    assert np.isfinite(table.entropy_S).all()


def test_versions_of_one_seed_are_one_model() -> None:
    first, second = create({"seed": 1}), create({"seed": 1})
    version = ModelRef("fake", run="r", epoch=1, step=2, manifest_sha256=b"\x01" * 32)
    for engine in (first, second):
        engine.load_version(version, "anywhere")
    assert first.describe() == second.describe()
    np.testing.assert_array_equal(first.model().logits_SV, second.model().logits_SV)
