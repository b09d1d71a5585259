"""The hf engine: its scores are the whole model's in float64, and do not depend on how the work was cut or packed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from examples.tiny.task import load
from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor.errors import ConfigurationError, Conflict, Exhausted, InvalidArgument, VersionGone
from preceptor.types import ModelRef, RaggedIds, Sequence, TailOf, Want, Window
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.engines.hf import create
from preceptor_teacher.grid import CELL_TOKENS
from preceptor_teacher.growing import Growth
from tests.reference import readout_oracle as oracle
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
from tests.support.models import BUNDLED_TEACHER as TINY
from tests.support.models import TOKENS

BOUND = 1e-4  # nats, of a random f32 model against itself in float64
EVERYTHING = {"sampled": True, "topk": 5, "entropy": True, "tail": TailOf.UNION, "samples": 2, "sample_seed": 9}


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("which", ["llama_folder", "other_folder", "sliding_folder"])
def test_scores_are_those_of_the_whole_model_in_float64(request, which, deterministic, rng):
    folder = request.getfixturevalue(which)
    engine = create({"name": "m", "folder": folder})
    if deterministic and not engine.describe()[0].capabilities.deterministic:
        assert which == "sliding_folder"
        return
    for turns in (1, 3):
        sequence = random_sequence(rng, turns=turns, response=40)
        lists = RaggedIds.from_rows([rng.integers(0, TOKENS, rng.integers(0, 5)) for _ in range(sequence.row_count + 1)])
        want = Want(**EVERYTHING, candidates=lists, next=True, temperature=0.7, deterministic=deterministic)
        rows = scored(engine.score([ScoreItem(sequence, want)]))[0].rows
        expected = float64_log_probs(folder, sequence, 0.7)
        assert rows.count == sequence.row_count + 1
        assert rows.sampled[:-1] == pytest.approx(expected[np.arange(rows.count - 1), sequence.response_ids], abs=BOUND)
        assert np.isnan(rows.sampled[-1])
        assert rows.topk.logprobs == pytest.approx(np.take_along_axis(expected, rows.topk.ids.astype(int), 1), abs=BOUND)
        assert rows.entropy == pytest.approx([oracle.entropy(row) for row in expected], abs=BOUND)
        for r, row in enumerate(expected):
            assert rows.topk.ids[r].tolist() == oracle.topk(row, 5, TOKENS)
            assert rows.candidates.row(r) == pytest.approx(row[lists.row(r)], abs=BOUND)
            assert rows.samples.ids[r].tolist() == oracle.samples(row, 9, r, 2, TOKENS)
            listed = {*rows.topk.ids[r].tolist(), *lists.row(r).tolist(), *rows.samples.ids[r].tolist()}
            listed |= {int(sequence.response_ids[r])} if r < sequence.row_count else set()
            assert rows.tail[r] == pytest.approx(oracle.tail(row, listed), abs=BOUND)


@pytest.mark.skipif(not TINY.exists(), reason="the bundled pair is not there")
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_bundled_teacher_is_exact_to_a_hundred_thousandth(deterministic, rng):
    engine = create({"name": "tiny", "folder": TINY})
    errors = []
    for problem in load("heldout")[:12]:
        sequence = Sequence.of(prompt_ids(problem.prompt), text_ids(problem.worked))
        want = Want(sampled=True, topk=8, tail=TailOf.TOPK, deterministic=deterministic)
        rows = scored(engine.score([ScoreItem(sequence, want)]))[0].rows
        expected = float64_log_probs(TINY, sequence)[:-1]
        errors.append(rows.sampled - expected[np.arange(rows.count), sequence.response_ids])
        errors.append(rows.topk.logprobs[:, 0] - expected.max(-1))
        errors.append(rows.tail - [oracle.tail(row, ids.tolist()) for row, ids in zip(expected, rows.topk.ids, strict=True)])
    assert np.abs(np.concatenate(errors)).max() <= 1e-5


def test_order_and_company_change_nothing_beyond_noise(engine, rng):
    """Twenty batch orders, and each sequence alone."""
    items = [ScoreItem(random_sequence(rng, turns=1 + i % 3, response=60), Want(sampled=True, topk=4)) for i in range(12)]
    alone = [scored(engine.score([item]))[0].rows for item in items]
    errors = []
    for _ in range(20):
        order = rng.permutation(len(items))
        for index, outcome in zip(order, scored(engine.score([items[i] for i in order])), strict=True):
            errors.append(np.abs(outcome.rows.sampled - alone[index].sampled))
    errors = np.concatenate(errors)
    assert errors.max() <= 1e-4
    assert np.quantile(errors, 0.99) <= 2e-5


def test_batches_are_cut_by_the_token_budget_without_a_trace(llama_folder, rng):
    items = [ScoreItem(random_sequence(rng, response=50), Want(sampled=True)) for _ in range(7)]
    whole = scored(create({"name": "m", "folder": llama_folder}).score(items))
    small = scored(create({"name": "m", "folder": llama_folder, "batch_tokens": 40}).score(items))
    for one, other in zip(whole, small, strict=True):
        assert one.rows.sampled == pytest.approx(other.rows.sampled, abs=2e-5)


def test_a_bad_item_fails_alone(engine, rng):
    good = ScoreItem(random_sequence(rng), Want(sampled=True))
    bad = ScoreItem(Sequence.of([1, TOKENS], [2]), Want(sampled=True))
    first, refused, last = engine.score([good, bad, good])
    assert isinstance(refused, InvalidArgument)
    assert refused.field == "sequence.segments[0].context[1]"
    assert_equal_bits(columns(first.rows), columns(last.rows))


def test_a_window_gives_the_rows_of_the_whole(engine, rng):
    sequence = random_sequence(rng, turns=2, response=30)
    for deterministic in (False, True):
        whole = scored(engine.score([ScoreItem(sequence, Want(**EVERYTHING, deterministic=deterministic))]))[0].rows
        part = Window(2, min(5, sequence.row_count))
        rows = scored(engine.score([ScoreItem(sequence, Want(**EVERYTHING, deterministic=deterministic, window=part))]))[0].rows
        assert (rows.start, rows.count) == (2, len(part))
        assert rows.samples.ids.tolist() == whole.samples.ids[part.start : part.end].tolist()
        if deterministic:
            assert_equal_bits(columns(rows), {n: v[part.start : part.end] for n, v in columns(whole).items()})


def test_a_growing_task_costs_its_new_tokens_and_equals_the_whole(engine, rng):
    sequence = long_sequence(rng)
    whole = scored(engine.score([ScoreItem(sequence, Want(**EVERYTHING))]))[0].rows
    for pieces in (1, 4, 9):
        parts, receipts = grow(engine, sequence, cuts_of(rng, sequence, pieces), EVERYTHING, task=f"t{pieces}")
        got = joined(parts)
        assert got["sampled"] == pytest.approx(whole.sampled, abs=2e-5)
        assert got["samples.ids"].tolist() == whole.samples.ids.tolist()
        assert sum(r.tokens_computed for r in receipts) <= len(sequence.ids)
        assert sum(r.tokens_recomputed for r in receipts) == 0


def test_deterministic_rows_are_bit_equal_over_chunkings_takeovers_and_doors(llama_folder, rng):
    sequence = long_sequence(rng)
    options = {**EVERYTHING, "deterministic": True, "hidden": True}
    engine = create({"name": "m", "folder": llama_folder})
    whole = columns(scored(engine.score([ScoreItem(sequence, Want(**options))]))[0].rows)
    for seed in range(6):
        draw = np.random.default_rng(seed)
        parts, receipts = grow(engine, sequence, cuts_of(draw, sequence, 5), options, task=f"t{seed}")
        assert_equal_bits(joined(parts), whole)
        assert sum(r.tokens_recomputed for r in receipts) == 0
    stateless = create({"name": "m", "folder": llama_folder, "state_tokens": 0})  # every call is a takeover
    parts, receipts = grow(stateless, sequence, cuts_of(rng, sequence, 4), options)
    assert_equal_bits(joined(parts), whole)
    assert sum(r.tokens_recomputed for r in receipts) > 0


def test_an_open_deterministic_task_waits_for_complete_cells(engine, rng):
    sequence = long_sequence(rng)
    known = prefix_of(sequence, 63)
    want = Want(sampled=True, deterministic=True)
    rows = scored(engine.score_growing([ScoreItem(known, want)], [Growth("s", "t", open=True)]))[0].rows
    predicted_by_first_cell = int((known.targets <= CELL_TOKENS).sum())
    assert (rows.count, known.row_count) == (predicted_by_first_cell, 26)


def test_a_takeover_recomputes_and_says_so(llama_folder, rng):
    sequence = long_sequence(rng)
    here, there = (create({"name": "m", "folder": llama_folder}) for _ in range(2))
    first = prefix_of(sequence, 90)
    scored(here.score_growing([ScoreItem(first, Want(sampled=True))], [Growth("s", "t", open=True)]))
    want = Want(sampled=True, window=Window(first.row_count, sequence.row_count))
    item, growth = ScoreItem(sequence, want), Growth("s", "t", open=False)
    taken, kept = (scored(engine.score_growing([item], [growth]))[0] for engine in (there, here))
    assert taken.rows.sampled == pytest.approx(kept.rows.sampled, abs=2e-5)
    assert (kept.receipt.tokens_reused, kept.receipt.tokens_recomputed) == (89, 0)
    assert (taken.receipt.tokens_reused, taken.receipt.tokens_recomputed) == (0, 89)


def test_a_group_shares_its_prompt_inside_a_scope_only(engine, rng):
    prompt = rng.integers(0, TOKENS, 80)

    def score(task: str, scope: str):
        sequence = Sequence.of(prompt, rng.integers(0, TOKENS, 10))
        return scored(engine.score_growing([ScoreItem(sequence, Want(sampled=True))], [Growth(scope, task, open=False)]))[
            0
        ].receipt

    assert score("a", "tenant-1").tokens_reused == 0
    assert score("b", "tenant-1").tokens_reused == 79
    assert score("c", "tenant-2").tokens_reused == 0


def test_states_stay_bounded(llama_folder, rng):
    engine = create({"name": "m", "folder": llama_folder, "state_tokens": 100})
    for number in range(8):
        sequence = random_sequence(rng, response=40)
        scored(engine.score_growing([ScoreItem(sequence, Want(sampled=True))], [Growth("s", f"t{number}", open=True)]))
        assert engine._scorers[0]._states.tokens <= 100


def test_versions_load_answer_by_name_and_go(engine, other_folder, rng):
    base = engine.describe()[0].model
    version = ModelRef("llama", run="r", step=1, manifest_sha256=bytes(32))
    item = ScoreItem(random_sequence(rng), Want(sampled=True))
    old = scored(engine.score([item]))[0]
    engine.load_version(version, str(other_folder))
    engine.load_version(version, str(other_folder))
    assert [info.model for info in engine.describe()] == [version, base]
    new, pinned = scored(engine.score([item]))[0], scored(engine.score([item], base))[0]
    assert (new.receipt.model, pinned.receipt.model) == (version, base)
    assert_equal_bits(columns(pinned.rows), columns(old.rows))
    assert not np.array_equal(new.rows.sampled, old.rows.sampled)
    with pytest.raises(Exhausted):
        engine.load_version(ModelRef("llama", run="r", step=2), str(other_folder))
    engine.drop_version(version)
    with pytest.raises(VersionGone):
        engine.score([item], version)
    with pytest.raises(Conflict):
        engine.drop_version(base)


def test_16_bit_weights_stay_close_and_keep_f32_log_probabilities(llama_folder, rng):
    item = ScoreItem(random_sequence(rng, response=30), Want(sampled=True, hidden=True))
    exact = scored(create({"name": "m", "folder": llama_folder}).score([item]))[0]
    small = scored(create({"name": "m", "folder": llama_folder, "dtype": "bf16"}).score([item]))[0]
    assert small.rows.sampled == pytest.approx(exact.rows.sampled, abs=0.5)
    assert (small.rows.hidden.states.dtype, small.receipt.dtype) == (np.uint16, "bf16")


def test_a_sequence_without_rows_gives_no_rows(engine):
    got = scored(engine.score([ScoreItem(Sequence.of([1, 2], []), Want(**EVERYTHING))]))[0]
    assert (got.rows.count, got.receipt.tokens_computed) == (0, 0)


def add_auto_map(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (shutil.rmtree, "is no folder"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "holds no object"),
        (lambda folder: (folder / "model.safetensors").unlink(), "safetensors"),
        (add_auto_map, "code of its own"),
    ],
)
def test_a_folder_that_is_no_safe_model_is_refused(llama_folder, tmp_path, damage, match):
    for path in llama_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(ConfigurationError, match=match):
        create({"name": "m", "folder": tmp_path})


def test_an_unknown_option_is_named_with_a_guess(llama_folder):
    with pytest.raises(ConfigurationError, match="batch_token") as refused:
        create({"name": "m", "folder": llama_folder, "batch_token": 3})
    assert "batch_tokens" in refused.value.hint


def test_a_model_that_changes_its_logits_is_refused_not_misread(llama_folder, monkeypatch):
    from preceptor_teacher.engines.hf import load

    honest = load.head_of
    monkeypatch.setattr(load, "head_of", lambda model, tokens: changed(honest(model, tokens)))
    with pytest.raises(ConfigurationError, match="head applied"):
        create({"name": "m", "folder": llama_folder})


def changed(head):
    from dataclasses import replace

    return replace(head, scale=2.0)
