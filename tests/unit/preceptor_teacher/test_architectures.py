"""Architectures on the hf engine: scored as the whole model in float64 however they are cut and packed, or refused by name."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from preceptor.errors import ConfigurationError
from preceptor.types import Want
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_serving.models import versions
from preceptor_teacher.engines.hf import create
from preceptor_teacher.growing import Growth
from tests.support.architectures import GROWING, GROWING_TOO, REFUSED, WHOLE_ONLY, random_model
from tests.support.hf_scoring import (
    assert_equal_bits,
    columns,
    cuts_of,
    float64_log_probs,
    grow,
    joined,
    long_sequence,
    prefix_of,
    random_sequence,
    scored,
)
from tests.support.models import save

BOUND = 1e-4
MOST_TOKENS = 256  # some architectures have no limit of their own
FIXED = {"sampled": True, "topk": 4, "hidden": True, "deterministic": True}


def served(folder):
    return create({"name": "m", "folder": folder, "max_sequence_tokens": MOST_TOKENS})


def assert_whole(engine, folder, sequence, **options) -> None:
    """Sampled and best log-probabilities, the row after the last token included."""
    rows = scored(engine.score([ScoreItem(sequence, Want(sampled=True, topk=3, next=True, **options))]))[0].rows
    expected = float64_log_probs(folder, sequence)
    assert rows.sampled is not None
    assert rows.topk is not None
    assert rows.sampled[:-1] == pytest.approx(expected[np.arange(sequence.row_count), sequence.response_ids], abs=BOUND)
    assert rows.topk.logprobs == pytest.approx(np.take_along_axis(expected, rows.topk.ids.astype(int), 1), abs=BOUND)


def assert_padding_leaves_no_trace(engine, rng) -> None:
    """Sequences and pasts of many lengths in one batch, against each sequence alone."""
    items = [ScoreItem(random_sequence(rng, turns=1 + i % 2, response=40), Want(sampled=True)) for i in range(5)]
    alone = [scored(engine.score([item]))[0].rows.sampled for item in items]
    growths = [Growth("tenant/job", f"task{i}", open=False) for i in range(len(items))]
    known = [ScoreItem(prefix_of(item.sequence, len(item.sequence.ids) - 1), item.want) for item in items]
    scored(engine.score_growing(known, growths))
    for outcomes in (engine.score(items), engine.score_growing(items, growths)):
        for one, expected in zip(scored(outcomes), alone, strict=True):
            assert one.rows.sampled == pytest.approx(expected, abs=BOUND)


def assert_growing(engine, folder, rng) -> None:
    sequence = long_sequence(rng)
    expected = float64_log_probs(folder, sequence)[np.arange(sequence.row_count), sequence.response_ids]
    parts, receipts = grow(engine, sequence, cuts_of(rng, sequence, 3), {"sampled": True})
    assert joined(parts)["sampled"] == pytest.approx(expected, abs=BOUND)
    assert sum(one.tokens_computed for one in receipts) <= len(sequence.ids)
    whole = columns(scored(engine.score([ScoreItem(sequence, Want(**FIXED))]))[0].rows)
    for pieces in (1, 4):
        parts, _ = grow(engine, sequence, cuts_of(rng, sequence, pieces), FIXED, task=f"fixed{pieces}")
        assert_equal_bits(joined(parts), whole)


@pytest.mark.parametrize("name", [*GROWING, *(pytest.param(name, marks=pytest.mark.slow) for name in GROWING_TOO)])
def test_an_architecture_is_scored_as_the_whole_model_however_it_is_cut_and_packed(name, tmp_path, rng):
    folder = save(random_model(*{**GROWING, **GROWING_TOO}[name]), tmp_path / "model")
    engine = served(folder)
    capabilities = engine.describe()[0].capabilities
    assert capabilities.streaming
    assert capabilities.deterministic
    assert_whole(engine, folder, random_sequence(rng, turns=2, response=40))
    assert_growing(engine, folder, rng)
    assert_padding_leaves_no_trace(engine, rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_ONLY)
def test_an_architecture_whose_prefixes_cannot_be_kept_says_so_and_is_scored_whole(name, tmp_path, rng, caplog):
    config, fields, why = WHOLE_ONLY[name]
    folder = save(random_model(config, fields), tmp_path / "model")
    with caplog.at_level(logging.WARNING, "preceptor.engine"):
        engine = served(folder)
    assert why in caplog.text
    capabilities = engine.describe()[0].capabilities
    assert (capabilities.streaming, capabilities.deterministic) == (False, False)
    assert_whole(engine, folder, random_sequence(rng, turns=2, response=40))
    assert_padding_leaves_no_trace(engine, rng)
    sequence = long_sequence(rng)
    _, receipts = grow(engine, sequence, cuts_of(rng, sequence, 2), {"sampled": True})
    assert sum(one.tokens_reused for one in receipts) == 0


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_is_no_decoder_is_refused_by_its_kind(name, tmp_path):
    make, why = REFUSED[name]
    with pytest.raises(ConfigurationError, match=why) as refused:
        served(save(make(), tmp_path / "model"))
    assert refused.value.field == "model"
    assert refused.value.limit == "a decoder-only language model"


def test_a_kind_that_transformers_does_not_know_is_refused(llama_folder, tmp_path):
    for path in llama_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = (tmp_path / "config.json").read_text().replace('"llama"', '"of_our_own"')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigurationError, match="of_our_own"):
        served(tmp_path)


def test_a_fused_attention_that_leaves_something_out_is_refused(tmp_path, monkeypatch):
    """Gemma 2 as it would run if nobody knew of its soft cap."""
    folder = save(random_model(*GROWING["gemma2"]), tmp_path / "model")
    loaded = versions.load_causal_lm

    def fused(*options):
        model = loaded(*options)
        model.set_attn_implementation("sdpa")
        return model

    monkeypatch.setattr(versions, "load_causal_lm", fused)
    with pytest.raises(ConfigurationError, match="plain attention") as refused:
        served(folder)
    assert "gemma2" in refused.value.value
