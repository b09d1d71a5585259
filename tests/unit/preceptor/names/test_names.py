"""Two builders must get these bytes; whatever differs must get others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument
from preceptor.names import (
    CacheIdentity,
    TokenKind,
    batch_digest,
    cache_key,
    effect_id,
    model_ref_digest,
    rollout_from_text,
    rollout_text,
    task_name,
    template_digest,
    tokenizer_digest,
)
from preceptor.types import AdapterRef, Grade, ModelRef, RaggedIds, RolloutId, Sequence, TailOf, Want, Window

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
RUN_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
ROLLOUTS = st.builds(RolloutId, RUN_NAMES, U64, U64, U32, U32)
MODEL = ModelRef("base", "run-1", 2, 40, bytes(range(32)), AdapterRef("lora", bytes(32)))


def test_golden_values() -> None:
    assert rollout_text(RolloutId("run-1", 3, 17, 0, 2)) == "run-1/3/17/0/2"
    assert task_name(RolloutId("run-1", 3, 17, 0, 2), "math") == "run-1/3/17/0/2/math"
    adapter = (
        b"preceptor model-ref 1\n\x04\x00\x00\x00base\x05\x00\x00\x00run-1"
        + (2).to_bytes(8, "little")
        + (40).to_bytes(8, "little")
        + bytes(range(32))
        + b"\x01\x04\x00\x00\x00lora"
        + bytes(32)
    )
    assert model_ref_digest(MODEL) == hashlib.sha256(adapter).digest()
    assert batch_digest([]) == hashlib.sha256(b"preceptor batch 1\n").digest()
    assert tokenizer_digest([]) == hashlib.sha256(bytes(4)).digest()
    assert template_digest("", []) == hashlib.sha256(bytes(8)).digest()


@given(ROLLOUTS)
def test_rollouts_come_back_from_their_text(rollout: RolloutId) -> None:
    assert rollout_from_text(rollout_text(rollout)) == rollout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run",
        "run/1/2/3",
        "run/1/2/3/4/5",
        "run/01/2/3/4",
        "run/+1/2/3/4",
        "run/1/2/3/-4",
        "a b/1/2/3/4",
        "r/1/2/3/4294967296",
        "r/١/2/3/4",
    ],
)
def test_no_other_text_names_a_rollout(text: str) -> None:
    with pytest.raises(InvalidArgument):
        rollout_from_text(text)


@pytest.mark.parametrize(
    "change", [{"run": "a/b"}, {"run": ""}, {"step": -1}, {"step": 2**64}, {"sample": 2**32}, {"attempt": -1}]
)
def test_rollouts_out_of_range_have_no_text(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rollout_text(replace(RolloutId("run", 0, 0, 0, 0), **change))
    assert caught.value.field == f"rollout.{next(iter(change))}"


def test_every_part_of_a_model_ref_counts() -> None:
    others = [
        replace(MODEL, name="base2"),
        replace(MODEL, run=""),
        replace(MODEL, epoch=3),
        replace(MODEL, step=41),
        replace(MODEL, manifest_sha256=bytes(32)),
        replace(MODEL, adapter=None),
        replace(MODEL, adapter=AdapterRef("lora2", bytes(32))),
        replace(MODEL, adapter=AdapterRef("lora", bytes(31) + b"\x01")),
        replace(MODEL, name="baserun", run="-1"),
    ]
    assert len({model_ref_digest(each) for each in [MODEL, *others]}) == len(others) + 1


@pytest.mark.parametrize("length", [0, 31, 33])
def test_digests_are_32_bytes(length: int) -> None:
    for bad in (replace(MODEL, manifest_sha256=bytes(length)), replace(MODEL, adapter=AdapterRef("a", bytes(length)))):
        with pytest.raises(InvalidArgument) as caught:
            model_ref_digest(bad)
        assert caught.value.field.endswith("manifest_sha256")


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_batches_differ_when_their_micro_batches_do(first: list[bytes], second: list[bytes]) -> None:
    assert (batch_digest(first) == batch_digest(second)) == (first == second)


def test_effects_differ_in_every_part_and_wrong_ranges_are_refused() -> None:
    effects = {
        effect_id(*each) for each in (("a", "b", "c", 0, 1), ("ab", "", "c", 0, 1), ("a", "b", "c", 1, 1), ("a", "b", "c", 0, 2))
    }
    assert len(effects) == 4
    for start, end in ((2, 1), (-1, 1), (0, 2**32)):
        with pytest.raises(InvalidArgument):
            effect_id("a", "b", "c", start, end)


def test_kinds_bytes_and_order_of_tokens_count_and_special_ids_are_a_set() -> None:
    a, b = (TokenKind.NORMAL, b"a"), (TokenKind.NORMAL, b"b")
    kinds = [[a, b], [b, a], [a], [(TokenKind.SPECIAL, b"a"), b], [(TokenKind.NORMAL, b"ab"), (TokenKind.UNUSED, b"")]]
    assert len({tokenizer_digest(each) for each in kinds}) == len(kinds)
    assert template_digest("t", [2, 1, 2]) == template_digest("t", [1, 2]) != template_digest("t", [1])


# ---------------------------------------------------------------- the cache

IDENTITY = CacheIdentity(replace(MODEL, adapter=None), "hf", "1", "f32", "full")
SEQUENCE = Sequence.of([1, 2], [3, 4, 5])
WANT = Want(sampled=True, topk=2, candidates=RaggedIds.from_rows([[7], [8, 9], []]))


def test_everything_that_decides_a_score_is_in_its_key() -> None:
    key = cache_key(b"secret", IDENTITY, SEQUENCE, WANT)
    others = [
        cache_key(b"other", IDENTITY, SEQUENCE, WANT),
        *(
            cache_key(b"secret", replace(IDENTITY, **{name: "x"}), SEQUENCE, WANT)
            for name in ("engine", "numerics_version", "dtype", "normaliser")
        ),
        cache_key(b"secret", replace(IDENTITY, model=replace(MODEL, adapter=None, step=41)), SEQUENCE, WANT),
        cache_key(b"secret", IDENTITY, Sequence.of([1], [2, 3, 4, 5]), WANT),
        cache_key(b"secret", IDENTITY, Sequence.of_turns([("context", [1]), ("context", [2]), ("response", [3, 4, 5])]), WANT),
        cache_key(b"secret", IDENTITY, Sequence.of([1, 2], [3, 4, 6]), WANT),
    ]
    changes: list[dict[str, Any]] = [
        {"sampled": False},
        {"entropy": True},
        {"hidden": True},
        {"next": True},
        {"deterministic": True},
        {"topk": 3},
        {"tail": TailOf.UNION},
        {"samples": 1},
        {"sample_seed": 1},
        {"temperature": 0.5},
        {"grade": Grade.U8},
        {"window": Window(0, 2)},
        {"candidates": None},
        {"candidates": RaggedIds.from_rows([[7, 8], [9], []])},
    ]
    others += [cache_key(b"secret", IDENTITY, SEQUENCE, replace(WANT, **change)) for change in changes]
    assert len({key, *others}) == len(others) + 1


def test_spelling_out_the_default_window_changes_nothing() -> None:
    assert cache_key(b"s", IDENTITY, SEQUENCE, WANT) == cache_key(b"s", IDENTITY, SEQUENCE, replace(WANT, window=Window(0, 3)))


def test_candidates_of_the_log_have_no_key_before_they_are_known() -> None:
    with pytest.raises(InvalidArgument) as caught:
        cache_key(b"s", IDENTITY, SEQUENCE, Want(log_candidates=True))
    assert caught.value.field == "want.log_candidates"


def test_ids_of_any_byte_order_give_one_key() -> None:
    swapped = replace(SEQUENCE.segments[0], ids=SEQUENCE.segments[0].ids.astype(">u4"))
    assert cache_key(b"s", IDENTITY, Sequence((swapped, SEQUENCE.segments[1])), WANT) == cache_key(b"s", IDENTITY, SEQUENCE, WANT)
    assert np.array_equal(swapped.ids, [1, 2])
