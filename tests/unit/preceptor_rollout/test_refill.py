"""Sequences of a unit wait for room: what they draw is what they draw alone, memory stays bounded, no place stays empty."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from transformers.cache_utils import DynamicLayer

from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import decoding
from preceptor_rollout.units import UnitSize
from tests.unit.preceptor_rollout.drawing import Names, bits, draw, engine_over, request, tiny_prompts

N1 = 1e-4
MIXED = {"max_new_tokens": 30, "temperature": 2.0}
Passes = list[tuple[int, int]]
"""Sequences and columns of the cache after each pass over new prompts or one more token."""


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    seen: Passes = []
    for name in ("join", "join_from", "next"):
        monkeypatch.setattr(decoding.Decoder, name, _watched(getattr(decoding.Decoder, name), seen))
    return seen


def _watched(method: Callable[..., object], seen: Passes) -> Callable[..., object]:
    def watched(self: decoding.Decoder, *args: object) -> object:
        logits = method(self, *args)
        keys = self._cache.layers[0].keys
        seen.append((keys.shape[0], keys.shape[-2]))
        return logits

    return watched


PROMPTS = {number: ids[number % 3 :] for number, ids in tiny_prompts(6).items()}
LONGEST = max(map(len, PROMPTS.values())) + MIXED["max_new_tokens"]


def asked(prompts: dict[int, list[int]], samples: int = 2) -> rollout_pb2.GenerateRequest:
    return request(prompts, samples, MIXED, student_topk=3)


@pytest.fixture(scope="module")
def alone() -> Names:
    """What the samples of each prompt draw by themselves."""
    engine, found = engine_over(), {}
    for number, ids in PROMPTS.items():
        found |= draw(engine, asked({number: ids}))
    return found


@pytest.mark.parametrize(("places", "chunk_tokens"), [(1, 4), (3, 7), (5, 64)])
def test_whatever_runs_beside_it_a_sequence_draws_what_it_draws_alone(
    alone: Names, passes: Passes, places: int, chunk_tokens: int
):
    engine = engine_over(batch_tokens=places * LONGEST, log_chunk_tokens=chunk_tokens)
    together = draw(engine, asked(PROMPTS), size=UnitSize(places * LONGEST, 100))
    assert len({one.sequence.row_count for one in alone.values()}) > 3, "lengths differ"
    assert together.keys() == alone.keys()
    for name, one in together.items():
        assert bits(one)[0] == bits(alone[name])[0]
        assert bits(one)[2:] == bits(alone[name])[2:]
        for ours, theirs in zip(_columns(one), _columns(alone[name]), strict=True):
            assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() <= N1
    assert max(rows * width for rows, width in passes) <= places * LONGEST
    assert max(rows for rows, _ in passes) >= places


def _columns(one):
    return one.behaviour.logprob_policy, one.behaviour.logprob_behaviour


def test_places_are_taken_again_while_others_run(passes: Passes):
    """The same sequences in the same memory: where batches end one after the other, more passes draw fewer tokens each."""
    engine, found = engine_over(batch_tokens=6 * LONGEST), {}
    for batches in (1, 100):
        passes.clear()
        drawn = draw(engine, asked(PROMPTS, 8), size=UnitSize(6 * LONGEST, batches))
        found[batches] = ({name: one.sequence.ids.tolist() for name, one in drawn.items()}, list(passes))
    (static, before), (refilled, after) = found[1], found[100]
    assert refilled == static
    assert len(after) < 0.8 * len(before)
    joined = [rows for (fewer, _), (rows, _) in pairwise(after) if rows > fewer]
    assert max(joined) == 6
    assert len(joined) > len(before) // LONGEST, "sequences joined others, not only a batch that had ended"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every prompt that the model has read."""
    seen: list[int] = []
    join = decoding.Decoder.join

    def watched(self: decoding.Decoder, prompts, samples):
        model, forward = self._model, self._model.forward

        def counted(input_ids, attention_mask=None, **given):
            mask = np.ones(input_ids.shape) if attention_mask is None else attention_mask.numpy()
            seen.extend(mask.sum(-1).astype(int).tolist())
            return forward(input_ids=input_ids, attention_mask=attention_mask, **given)

        with monkeypatch.context() as patched:
            patched.setattr(model, "forward", counted)
            return join(self, prompts, samples)

    monkeypatch.setattr(decoding.Decoder, "join", watched)
    return seen


@pytest.mark.parametrize("places", [3, 8])
def test_a_prompt_is_read_once_though_its_samples_begin_at_different_times(read: list[int], passes: Passes, places: int):
    """Eight samples of each prompt: where three run at a time, every group is cut into parts; where eight do, it is split."""
    free = draw(engine_over(), asked(PROMPTS, 8))
    read.clear()
    passes.clear()
    together = draw(engine_over(batch_tokens=places * LONGEST), asked(PROMPTS, 8), size=UnitSize(places * LONGEST, 100))
    assert {name: bits(one)[0] for name, one in together.items()} == {name: bits(one)[0] for name, one in free.items()}
    for name, one in together.items():
        for ours, theirs in zip(_columns(one), _columns(free[name]), strict=True):
            assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() <= N1
    assert max(rows * width for rows, width in passes) <= places * LONGEST
    assert sorted(read) == sorted(map(len, PROMPTS.values()))


def test_where_a_layer_cannot_be_padded_those_that_wait_begin_when_all_have_ended(
    alone: Names, passes: Passes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decoding, "DynamicLayer", type("Other", (DynamicLayer,), {}))
    together = draw(engine_over(batch_tokens=4 * LONGEST), asked(PROMPTS), size=UnitSize(4 * LONGEST, 100))
    assert {name: bits(one)[0] for name, one in together.items()} == {name: bits(one)[0] for name, one in alone.items()}
    assert max(rows for rows, _ in passes) == 4
    begun = [width for (before, _), (rows, width) in pairwise(passes) if rows > before]
    assert all(width <= LONGEST - MIXED["max_new_tokens"] for width in begun), "only whole batches begin"


def test_a_deterministic_unit_is_not_cut_again():
    prompts = tiny_prompts(1)
    plain = draw(engine_over(), request(prompts, 4, deterministic=True))
    small = draw(engine_over(batch_tokens=1), request(prompts, 4, deterministic=True))
    assert {name: bits(one) for name, one in small.items()} == {name: bits(one) for name, one in plain.items()}
