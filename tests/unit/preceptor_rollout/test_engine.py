"""What the engine draws: equal to the reference loop, to a whole forward pass, and to itself however work is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from examples.tiny.decode import MODEL_DIRS, load_model
from examples.tiny.tokenizer import EOS_ID, VOCAB_SIZE
from preceptor.errors import Conflict, Corrupt, PreceptorError, Unsupported, VersionGone
from preceptor.types import FinishReason, ModelRef, Rollout
from preceptor_rollout import chunks
from preceptor_rollout.calls import GENERATE
from preceptor_rollout.units import Unit
from tests.reference import opd_loop
from tests.unit.preceptor_rollout.drawing import bits, draw, engine_over, request, tiny_prompts

N1 = 1e-4


def whole_forward(model, rollout: Rollout) -> torch.Tensor:
    """Log-probabilities of every row of the head for every response token, in one pass over the whole sequence."""
    ids = torch.from_numpy(rollout.sequence.ids.astype("int64"))[None]
    with torch.no_grad():
        return model(input_ids=ids).logits[0, rollout.sequence.targets - 1].log_softmax(-1)


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
        top = np.sort(rollout.student_topk.ids.reshape(-1, settings.top_k), 1)
        assert np.array_equal(top, np.sort(reference.top_ids_BRk[row][valid].numpy(), 1))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_p": 0.8, "top_k": 20}])
def test_both_logprobs_equal_a_whole_forward_pass(engine, sampling):
    model = load_model("student")
    for rollout in draw(engine, request(tiny_prompts(3), 2, sampling)).values():
        rows = (whole_forward(model, rollout) / sampling.get("temperature", 1.0)).log_softmax(-1)
        target = torch.from_numpy(rollout.sequence.response_ids.astype("int64"))
        policy = rows.gather(1, target[:, None])[:, 0].numpy()
        assert np.abs(policy - rollout.behaviour.logprob_policy).max() <= N1
        if "top_p" in sampling:
            values = rows.topk(20).values
            before = values.double().exp().cumsum(-1) - values.double().exp()
            kept = before < 0.8 * values.double().exp().sum(-1, keepdim=True)
            mass = values.masked_fill(~kept, -torch.inf).logsumexp(-1).numpy()
            assert np.abs(policy - mass - rollout.behaviour.logprob_behaviour).max() <= N1
        else:
            assert np.array_equal(rollout.behaviour.logprob_policy, rollout.behaviour.logprob_behaviour)
        assert rollout.behaviour.versions.tolist() == [0] * rollout.sequence.row_count
        assert rollout.behaviour.provenance.tolist() == [0] * rollout.sequence.row_count


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
        assert one.behaviour.logprob_policy.tobytes() == free[name].behaviour.logprob_policy[:rows].tobytes()


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


def test_greedy_is_certain_and_the_same_for_every_sample(engine):
    rollouts = draw(engine, request(tiny_prompts(2), 2, {"temperature": 0.0}))
    for (prompt, _), rollout in rollouts.items():
        rows = whole_forward(load_model("student"), rollout)
        assert rollout.sequence.response_ids.tolist() == rows.argmax(-1).tolist()
        assert rollout.behaviour.logprob_behaviour.tolist() == [0.0] * rollout.sequence.row_count
        assert np.abs(rollout.behaviour.logprob_policy - rows.amax(-1).numpy()).max() <= N1
        assert rollout.sequence.ids.tolist() == rollouts[prompt, 0].sequence.ids.tolist()


def test_ids_beyond_the_tokenizer_are_never_drawn_and_never_listed(padded_folder):
    engine = engine_over(padded_folder)
    model = AutoModelForCausalLM.from_pretrained(padded_folder, dtype=torch.float32).eval()
    rollouts = draw(engine, request({0: [1, 4, 5]}, 8, student_topk=5))
    for rollout in rollouts.values():
        assert rollout.sequence.response_ids.max() < VOCAB_SIZE
        assert rollout.student_topk.ids.max() < VOCAB_SIZE
        rows = whole_forward(model, rollout)
        target = torch.from_numpy(rollout.sequence.response_ids.astype("int64"))[:, None]
        assert np.abs(rows.gather(1, target)[:, 0].numpy() - rollout.behaviour.logprob_policy).max() <= N1
        real = rows[:, :VOCAB_SIZE].log_softmax(-1).gather(1, target)[:, 0].numpy()
        assert np.abs(real - rollout.behaviour.logprob_behaviour).max() <= N1


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


def test_samples_are_named_not_counted(engine):
    """Asking for samples 2 and 3 alone draws what asking for all four draws."""
    prompts = tiny_prompts(1)
    every = draw(engine, request(prompts, 4))
    later = request(prompts, 2)
    later.prompts[0].first_sample = 2
    assert {n: r.sequence.ids.tolist() for n, r in draw(engine, later).items()} == {
        n: r.sequence.ids.tolist() for n, r in every.items() if n[1] >= 2
    }


def test_a_unit_ends_under_the_weights_it_began_with(padded_folder):
    engine = engine_over()
    (base,) = engine.describe()
    next_ref = ModelRef("tiny", "r", 1, 5, b"\1" * 32)
    message = request(tiny_prompts(1), 2)
    want = draw(engine, message)
    replies = engine.methods()[GENERATE](Unit(base.model, message).to_bytes())
    parts = list(chunks.from_bytes(next(replies)))
    engine.load_version(next_ref, str(MODEL_DIRS["teacher"]))
    engine.drop_version(base.model)
    parts += [chunk for reply in replies for chunk in chunks.from_bytes(reply)]
    by_sample = {sample: [p for p in parts if p.id.sample == sample] for sample in (0, 1)}
    for sample, own in by_sample.items():
        ids = b"".join(chunks.response_of(part).response.u32le for part in own)
        assert np.frombuffer(ids, "<u4").tolist() == want[0, sample].sequence.response_ids.tolist()
    after = draw(engine, message, next_ref)
    assert {step for one in after.values() for step in one.behaviour.versions.tolist()} == {5}
    with pytest.raises(VersionGone):
        draw(engine, message, base.model)
    with pytest.raises(Conflict):
        engine.drop_version(next_ref)


def test_what_was_not_used_for_longest_leaves_the_memory():
    engine = engine_over(max_versions=2)
    (base,) = engine.describe()
    first, second = (ModelRef("tiny", "r", 1, step, b"\1" * 32) for step in (1, 2))
    engine.load_version(first, str(MODEL_DIRS["student"]))
    draw(engine, request(tiny_prompts(1), 1, {"max_new_tokens": 1}), base.model)
    engine.load_version(second, str(MODEL_DIRS["student"]))
    assert [info.model for info in engine.describe()] == [second, base.model]


def test_weights_that_diverged_are_named(tmp_path):
    folder = tmp_path / "broken"
    model = load_model("student")
    model.lm_head.weight.data.fill_(float("nan"))
    model.save_pretrained(folder)
    engine = engine_over()
    ref = ModelRef("tiny", "r", 1, 9, b"\1" * 32)
    engine.load_version(ref, str(folder))
    with pytest.raises(Corrupt, match="not numbers") as failed:
        draw(engine, request(tiny_prompts(1), 1), ref)
    assert failed.value.value == "step 9"


def test_scoring_belongs_to_a_teacher(engine):
    with pytest.raises(Unsupported):
        engine.score([])


def test_an_unknown_option_is_named():
    with pytest.raises(PreceptorError) as failed:
        engine_over(chunk=3)
    assert failed.value.field == "chunk"
