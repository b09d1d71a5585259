"""Memory that runs out in a forward pass costs time, or the one item that needs too much of it; never its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch

from preceptor.errors import TooLarge
from preceptor.types import Scored, Sequence, TailOf, Want
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.engines.hf import create
from preceptor_teacher.engines.hf.engine import HfEngine
from preceptor_teacher.engines.hf.memory import if_it_fits, is_out_of_memory
from preceptor_teacher.growing import Growth
from tests.support.hf_scoring import assert_equal_bits, columns, scored
from tests.support.models import TOKENS

CPU = torch.device("cpu")


@contextmanager
def allocator(engine: HfEngine, refuses: Callable[[int, int, int], bool]):
    """Fails passes as an accelerator does; `refuses` is asked with sequences, new tokens and past tokens of each."""
    passes: list[tuple[int, int, int]] = []

    def before(module, positional, inputs):
        past = inputs.get("past_key_values")
        sequences, new = inputs["input_ids"].shape
        known = 0 if past is None else past.get_seq_length()
        passes.append((sequences, new, known))
        if refuses(sequences, new, known):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    hook = engine._scorers[0].model.base.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


def holds(tokens: int) -> Callable[[int, int, int], bool]:
    return lambda sequences, new, past: sequences * (new + past) > tokens


def sequence_of(rng, tokens: int) -> Sequence:
    ids = rng.integers(0, TOKENS, tokens)
    return Sequence.of(ids[: tokens // 2], ids[tokens // 2 :])


def item_of(sequence: Sequence, **want) -> ScoreItem:
    return ScoreItem(sequence, Want(sampled=True, topk=3, tail=TailOf.TOPK, **want))


def close_to(one: Scored, other: Scored) -> bool:
    return one.rows.sampled == pytest.approx(other.rows.sampled, abs=1e-4)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(engine, rng):
    items = [item_of(sequence_of(rng, tokens)) for tokens in (30, 30, 31, 32, 33, 34, 40, 41)]
    alone = [scored(engine.score([item]))[0] for item in items]
    with allocator(engine, holds(90)) as passes:
        got = scored(engine.score(items))
    assert passes[0][0] == 8, "all are tried together first"
    assert sum(sequences for sequences, new, _ in passes if sequences * new <= 90) == 8, "each is read once"
    assert all(close_to(one, other) for one, other in zip(got, alone, strict=True))


@pytest.mark.parametrize("deterministic", [False, True])
def test_what_does_not_fit_alone_is_refused_by_name_and_its_neighbours_are_scored(engine, deterministic, rng):
    items = [item_of(sequence_of(rng, tokens), deterministic=deterministic) for tokens in (40, 100, 44)]
    alone = [scored(engine.score([item]))[0] for item in items]
    with allocator(engine, holds(64)):
        first, refused, last = engine.score(items)
    assert isinstance(refused, TooLarge)
    assert not refused.retryable
    assert (refused.field, refused.value, refused.limit) == ("sequence", "99 tokens, 50 rows", "the free memory of cpu")
    for got, known in zip(scored([first, last]), (alone[0], alone[2]), strict=True):
        assert close_to(got, known)
        if deterministic:
            assert_equal_bits(columns(got.rows), columns(known.rows))


@pytest.mark.parametrize("deterministic", [False, True])
def test_kept_states_make_room_before_anything_is_refused(engine, deterministic, rng):
    sequence, states = sequence_of(rng, 96), engine._scorers[0]._states
    item = item_of(sequence, deterministic=deterministic)
    alone = scored(engine.score([item]))[0]
    engine.score_growing([item_of(sequence_of(rng, 64))], [Growth("t/j", "older", open=True)])
    kept = states.tokens
    assert kept
    with allocator(engine, lambda sequences, new, past: states.tokens + sequences * (new + past) > 100):
        got = scored(engine.score([item]))[0]
    assert states.tokens == 0
    assert close_to(got, alone)


def test_a_shared_prefix_that_does_not_fit_is_read_by_each_for_himself(engine, rng):
    prompt = rng.integers(0, TOKENS, 60)
    sequences = [Sequence.of(prompt, rng.integers(0, TOKENS, 10 + i)) for i in range(3)]
    alone = [scored(engine.score([item_of(one)]))[0] for one in sequences]
    growths = [Growth("t/j", f"task{i}", open=False, kept=False) for i in range(3)]
    with allocator(engine, lambda sequences, new, past: new == 59) as passes:
        got = scored(engine.score_growing([item_of(one) for one in sequences], growths))
    assert any(new == 59 for _, new, _ in passes), "the prefix was tried"
    assert [one.receipt.tokens_reused for one in got] == [0, 0, 0]
    assert all(close_to(one, other) for one, other in zip(got, alone, strict=True))


def test_groups_that_do_not_fit_together_are_shared_one_after_the_other(engine, rng):
    prompts = [rng.integers(0, TOKENS, 60) for _ in range(2)]
    sequences = [Sequence.of(prompt, rng.integers(0, TOKENS, 8)) for prompt in prompts for _ in range(3)]
    growths = [Growth("t/j", f"task{i}", open=False, kept=False) for i in range(6)]
    with allocator(engine, lambda sequences, new, past: new > 20 and sequences > 1):
        got = scored(engine.score_growing([item_of(one) for one in sequences], growths))
    computed = sum(one.receipt.tokens_computed for one in got)
    assert computed < sum(len(one.ids) for one in sequences) / 2, "each prompt is still read once"


def test_memory_that_ran_out_is_recognised_as_it_is_told_without_an_accelerator():
    assert if_it_fits(lambda: torch.empty(1 << 60, dtype=torch.uint8), CPU) is None
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_any_other_failure_is_still_a_failure(llama_folder, rng):
    engine = create({"name": "m", "folder": llama_folder})

    def broken(module, positional, inputs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    engine._scorers[0].model.base.register_forward_pre_hook(broken, with_kwargs=True)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        engine.score([item_of(sequence_of(rng, 20))])
