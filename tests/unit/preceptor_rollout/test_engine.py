"""What the engine draws: equal to the reference loop, to a whole forward pass, and to itself however work is cut."""

from __future__ import annotations

import numpy as np
import pytest

from examples.tiny.decode import MODEL_DIRS, load_model
from examples.tiny.tokenizer import EOS_ID
from preceptor.errors import PreceptorError
from preceptor.types import FinishReason, ModelRef
from tests.reference import opd_loop
from tests.unit.preceptor_rollout.drawing import bits, draw, engine_over, request, tiny_prompts

N1 = 1e-4


@pytest.mark.parametrize("deterministic", [False, True])
def test_tokens_and_top_ids_are_those_of_the_reference_loop(engine, deterministic):
    prompts = tiny_prompts(6)
    settings = opd_loop.Settings(seed=7, samples_per_prompt=3, max_response_tokens=40)
    reference = opd_loop.generate(load_model("student"), prompts, 3, settings)
    message = request(prompts, 3, {"max_new_tokens": 40}, student_topk=settings.top_k, deterministic=deterministic)
    rollouts = draw(engine, message)
    assert len(rollouts) == len(reference.prompts_B) == 18
    for row, prompt in enumerate(reference.prompts_B.tolist()):
        valid, rollout = reference.valid_BR[row], rollouts[prompt, row % 3]
        assert rollout.sequence.response_ids.tolist() == reference.response_BR[row][valid].tolist()
        assert rollout.student_topk is not None
        top = np.sort(rollout.student_topk.ids.reshape(-1, settings.top_k), 1)
        assert np.array_equal(top, np.sort(reference.top_ids_BRk[row][valid].numpy(), 1))


def test_deterministic_rollouts_are_bit_equal_whatever_else_is_asked_for(engine):
    prompts = tiny_prompts(5)
    alone = {}
    for prompt, ids in prompts.items():
        alone |= draw(engine_over(log_chunk_tokens=7), request({prompt: ids}, 3, deterministic=True, student_topk=4))
    together = draw(engine, request(dict(reversed(prompts.items())), 3, deterministic=True, student_topk=4))
    assert {name: bits(one) for name, one in together.items()} == {name: bits(one) for name, one in alone.items()}


def test_a_group_keeps_its_shape_until_its_last_sample_ends(engine):
    """An early end of a neighbour, forced by an extra stop id, changes no bit of those that go on."""
    prompts = tiny_prompts(1)
    free = draw(engine, request(prompts, 6, {"temperature": 3.0}, deterministic=True))
    seconds = [one.sequence.response_ids[1] for one in free.values()]
    stop = min(seconds, key=seconds.count)  # what the fewest samples have there
    cut = draw(engine, request(prompts, 6, {"temperature": 3.0, "extra_stop_ids": [stop]}, deterministic=True))
    assert len({one.sequence.row_count for one in cut.values()}) > 1
    for name, one in cut.items():
        rows = one.sequence.row_count
        assert one.sequence.response_ids.tolist() == free[name].sequence.response_ids[:rows].tolist()
        ours, theirs = (np.asarray(each.behaviour.logprob_policy) for each in (one, free[name]))
        assert ours.tobytes() == theirs[:rows].tobytes()


@pytest.mark.parametrize("chunk_tokens", [1, 5, 64])
def test_prompts_of_many_lengths_in_one_batch_draw_what_they_draw_alone(chunk_tokens):
    """Padding, early ends and compaction change log-probabilities by rounding only."""
    engine = engine_over(log_chunk_tokens=chunk_tokens)
    prompts = {i: ids[: len(ids) - i] for i, ids in tiny_prompts(5).items()}
    alone = {}
    for prompt, ids in prompts.items():
        alone |= draw(engine, request({prompt: ids}, 2))
    together = draw(engine, request(prompts, 2))
    for name, one in together.items():
        assert one.sequence.ids.tolist() == alone[name].sequence.ids.tolist()
        assert np.abs(one.behaviour.logprob_policy - alone[name].behaviour.logprob_policy).max() <= N1


def test_how_rollouts_end(engine):
    prompts = tiny_prompts(2)
    ended = draw(engine, request(prompts, 1, {"max_new_tokens": 60, "temperature": 0.0}))
    assert {one.finish_reason for one in ended.values()} == {FinishReason.EOS}
    assert all(one.sequence.response_ids[-1] == EOS_ID for one in ended.values())
    short = draw(engine, request(prompts, 1, {"max_new_tokens": 4}))
    assert {(one.finish_reason, one.sequence.row_count) for one in short.values()} == {(FinishReason.LENGTH, 4)}
    on = draw(engine, request(prompts, 1, {"max_new_tokens": 60, "temperature": 0.0, "ignore_eos": True}))
    for name, one in ended.items():
        assert on[name].sequence.row_count == 60
        assert on[name].sequence.response_ids[: one.sequence.row_count].tolist() == one.sequence.response_ids.tolist()
    stopped = draw(engine, request(prompts, 1, {"max_new_tokens": 60, "temperature": 0.0, "stop": ["="]}))
    for name, one in stopped.items():
        assert one.finish_reason is FinishReason.STOP
        assert ended[name].text.startswith(one.text + "=")
        assert "=" not in one.text
        rows = one.sequence.row_count
        assert one.sequence.response_ids.tolist() == ended[name].sequence.response_ids[:rows].tolist()


def test_what_was_not_used_for_longest_leaves_the_memory():
    engine = engine_over(max_versions=2)
    (base,) = engine.describe()
    first, second = (ModelRef("tiny", "r", 1, step, b"\1" * 32) for step in (1, 2))
    engine.load_version(first, str(MODEL_DIRS["student"]))
    draw(engine, request(tiny_prompts(1), 1, {"max_new_tokens": 1}), base.model)
    engine.load_version(second, str(MODEL_DIRS["student"]))
    assert [info.model for info in engine.describe()] == [second, base.model]


def test_an_unknown_option_is_named():
    with pytest.raises(PreceptorError) as failed:
        engine_over(chunk=3)
    assert failed.value.field == "chunk"
