"""What the vllm engine does beyond the contract: growing tasks, shared prefixes, counted rows, options of vLLM."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preceptor.errors import ConfigurationError, Internal, TooLarge
from preceptor.types import Scored, Sequence, TailOf, Want, Window
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.engines.hf import create as create_hf
from preceptor_teacher.growing import Growth
from tests.support.models import BUNDLED_TEACHER

vllm = pytest.importorskip("vllm", reason="vLLM is in an environment of its own: make test-vllm")

from preceptor_teacher.engines.vllm import create  # noqa: E402
from preceptor_teacher.engines.vllm.core import Part  # noqa: E402
from preceptor_teacher.engines.vllm.engine import VllmEngine  # noqa: E402
from preceptor_teacher.engines.vllm.options import VllmOptions  # noqa: E402
from preceptor_teacher.engines.vllm.probe import LOOK_UP, check_core, check_runner  # noqa: E402
from preceptor_teacher.engines.vllm.readings import Read  # noqa: E402

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
NOISE_NATS = 1e-4
BLOCK, CACHE_TOKENS = 32, 2048
TOKENS = 261
BYTES_PER_TOKEN = 4 * 4 * 2 * 32 * 4  # layers, heads, keys and values, head size, f32
numbers = itertools.count()
WANT = Want(sampled=True, topk=4, entropy=True, tail=TailOf.UNION, samples=2, sample_seed=5)


@pytest.fixture(scope="module")
def engine() -> Generator[VllmEngine]:
    """The bundled teacher with a cache so small that sessions fill it."""
    room = {"block_size": BLOCK, "kv_cache_memory_bytes": CACHE_TOKENS * BYTES_PER_TOKEN}
    made = create({"name": "tiny", "folder": BUNDLED_TEACHER, "dtype": "f32", **room})
    assert isinstance(made, VllmEngine)
    yield made
    made.close()


def random_ids(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, TOKENS, count).tolist()


def scored(outcome) -> Any:
    """A `Scored` whose rows are there: what was not asked for is not looked at."""
    assert isinstance(outcome, Scored), outcome
    return outcome


def one(engine: VllmEngine, sequence: Sequence, want: Want = WANT, growth: Growth | None = None) -> Any:
    return scored(engine.score_growing([ScoreItem(sequence, want)], [growth])[0])


def assert_close(left, right) -> None:
    np.testing.assert_allclose(left.sampled, right.sampled, rtol=0, atol=NOISE_NATS)
    np.testing.assert_allclose(left.topk.logprobs, right.topk.logprobs, rtol=0, atol=NOISE_NATS)
    np.testing.assert_allclose(left.tail, right.tail, rtol=0, atol=NOISE_NATS)


# ---- growing tasks


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, 79), max_size=5), seed=st.integers(0, 2**20))
def test_a_growing_task_gives_the_rows_of_the_whole_and_costs_each_token_once(engine: VllmEngine, cuts: set[int], seed: int):
    prompt, response = random_ids(seed, 37), random_ids(seed + 1, 80)
    whole = one(engine, Sequence.of(prompt, response)).rows
    done, computed, scope = 0, 0, f"scope{next(numbers)}"
    for end in [*sorted(cuts), 80]:
        want = Want(sampled=True, topk=4, tail=TailOf.TOPK, window=Window(done, end))
        growth = Growth(scope, "task", open=end < 80)
        part = one(engine, Sequence.of(prompt, response[:end]), want, growth)
        np.testing.assert_allclose(part.rows.sampled, whole.sampled[done:end], rtol=0, atol=NOISE_NATS)
        np.testing.assert_allclose(part.rows.topk.logprobs, whole.topk.logprobs[done:end], rtol=0, atol=NOISE_NATS)
        done, computed = end, computed + part.receipt.tokens_computed
        assert part.receipt.tokens_recomputed == 0
    assert computed == 37 + 80 - 1  # the last token predicts nothing that is wanted


def test_a_task_that_starts_over_gets_all_its_rows_again(engine: VllmEngine):
    sequence = Sequence.of(random_ids(1, 20), random_ids(2, 60))
    first = one(engine, sequence, growth=Growth("over", "task", open=True))
    again = one(engine, sequence, growth=Growth("over", "task", open=True))
    assert_close(again.rows, first.rows)
    other = Sequence.of(random_ids(3, 20), random_ids(2, 60))
    assert_close(one(engine, other, growth=Growth("over", "task", open=True)).rows, one(engine, other).rows)


def test_a_closed_task_leaves_no_session(engine: VllmEngine):
    before = len(engine._sessions)
    sequence = Sequence.of(random_ids(4, 9), random_ids(5, 9))
    one(engine, sequence, Want(sampled=True, window=Window(0, 4)), Growth("closing", "task", open=True))
    assert len(engine._sessions) == before + 1
    one(engine, sequence, Want(sampled=True, window=Window(8, 9)), Growth("closing", "task", open=False))
    assert len(engine._sessions) == before


def test_two_chunks_of_one_task_in_a_batch_both_get_their_rows(engine: VllmEngine):
    sequence, growth = Sequence.of(random_ids(6, 9), random_ids(7, 30)), Growth("twice", "task", open=True)
    items = [ScoreItem(sequence, Want(sampled=True, window=Window(*window))) for window in ((0, 20), (20, 30))]
    left, right = (scored(outcome) for outcome in engine.score_growing(items, [growth, growth]))
    whole = one(engine, sequence).rows.sampled
    np.testing.assert_allclose(np.concatenate([left.rows.sampled, right.rows.sampled]), whole, rtol=0, atol=NOISE_NATS)


def test_idle_sessions_make_room_for_work_that_needs_it(engine: VllmEngine):
    """Sessions may hold half of the cache by their tokens, but whole blocks are taken: little is left for a long sequence."""
    prompts = [random_ids(100 + index, BLOCK + 2) for index in range(26)]
    for index, prompt in enumerate(prompts):
        one(engine, Sequence.of(prompt[:-1], prompt[-1:]), growth=Growth(f"idle{index}", "task", open=True))
    before = len(engine._sessions)
    long = Sequence.of(random_ids(8, 480), random_ids(9, 20))
    rows = [scored(outcome).rows for outcome in engine.score([ScoreItem(long, WANT)] * 3)]
    assert_close(rows[2], rows[0])
    assert len(engine._sessions) <= before
    again = Sequence.of(prompts[0], [5, 6, 7])
    assert_close(one(engine, again, growth=Growth("idle0", "task", open=True)).rows, one(engine, again).rows)


def test_more_open_tasks_than_the_cache_holds_are_all_scored_in_one_batch(engine: VllmEngine):
    """Each stays open after its chunk and holds its blocks; the first ones have to go before the last ones have room."""
    items = [ScoreItem(Sequence.of(random_ids(60 + index, 400), random_ids(80 + index, 50)), WANT) for index in range(12)]
    outcomes = engine.score_growing(items, [Growth("crowd", f"task{index}", open=True) for index in range(12)])
    assert engine._sessions.tokens <= CACHE_TOKENS // 2
    for item, outcome in zip(items, outcomes, strict=True):
        assert_close(scored(outcome).rows, one(engine, item.sequence).rows)


# ---- prefixes


def test_a_group_computes_its_prompt_once(engine: VllmEngine):
    prompt = random_ids(10, 5 * BLOCK)
    items = [ScoreItem(Sequence.of(prompt, random_ids(20 + index, 16)), WANT) for index in range(4)]
    growths = [Growth("group", f"task{index}", open=False) for index in range(4)]
    outcomes = [scored(outcome) for outcome in engine.score_growing(items, growths)]
    assert [outcome.receipt.tokens_computed for outcome in outcomes] == [5 * BLOCK + 15, 15, 15, 15]
    assert [outcome.receipt.tokens_reused for outcome in outcomes] == [0, *[5 * BLOCK] * 3]
    for item, outcome in zip(items, outcomes, strict=True):
        assert_close(outcome.rows, one(engine, item.sequence).rows)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompt_tokens=st.integers(1, 3 * BLOCK),
    lengths=st.lists(st.integers(0, 5), min_size=2, max_size=4),
    seed=st.integers(0, 2**20),
)
def test_groups_of_any_shape_give_the_rows_of_each_alone(engine: VllmEngine, prompt_tokens: int, lengths: list[int], seed: int):
    prompt, scope = random_ids(seed, prompt_tokens), f"shape{next(numbers)}"
    items = [ScoreItem(Sequence.of(prompt, random_ids(seed + index, count)), WANT) for index, count in enumerate(lengths)]
    growths = [Growth(scope, f"task{index}", open=bool(index % 2)) for index in range(len(items))]
    for item, outcome in zip(items, engine.score_growing(items, growths), strict=True):
        assert_close(scored(outcome).rows, one(engine, item.sequence).rows)


def test_prefixes_are_shared_inside_a_scope_only(engine: VllmEngine):
    sequence = Sequence.of(random_ids(11, 3 * BLOCK), random_ids(12, 8))
    assert one(engine, sequence, growth=Growth("mine", "a", open=False)).receipt.tokens_reused == 0
    assert one(engine, sequence, growth=Growth("mine", "b", open=False)).receipt.tokens_reused == 2 * BLOCK
    assert one(engine, sequence, growth=Growth("theirs", "a", open=False)).receipt.tokens_reused == 0
    assert one(engine, sequence).receipt.tokens_reused == 0
    assert one(engine, sequence).receipt.tokens_reused == 0


def test_a_cached_sequence_is_computed_again_from_its_first_wanted_row_on(engine: VllmEngine):
    prompt, response = random_ids(13, BLOCK + 5), random_ids(14, 3 * BLOCK)
    first = one(engine, Sequence.of(prompt, response), growth=Growth("again", "a", open=False))
    again = one(engine, Sequence.of(prompt, response), growth=Growth("again", "b", open=False))
    assert_close(again.rows, first.rows)
    assert (again.receipt.tokens_reused, again.receipt.tokens_computed) == (BLOCK, 4 * BLOCK + 4 - BLOCK)


def test_rows_whose_states_never_came_are_an_error_and_never_trimmed(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch):
    """Without the bound on look-ups vLLM skips what it has cached: that must not go unseen."""
    sequence = Sequence.of(random_ids(15, BLOCK), random_ids(16, 3 * BLOCK))
    one(engine, sequence, growth=Growth("short", "a", open=False))
    manager = engine._core._core.scheduler.kv_cache_manager
    monkeypatch.delattr(manager, LOOK_UP)  # the instance's; the class's own is behind it
    [outcome] = engine.score_growing([ScoreItem(sequence, WANT)], [Growth("short", "b", open=False)])
    assert isinstance(outcome, Internal)
    assert "hidden states" in outcome.message


def test_long_prompts_are_read_in_pieces(engine: VllmEngine):
    sequences = [Sequence.of(random_ids(30 + index, 400), random_ids(40 + index, 100)) for index in range(12)]
    together = engine.score(
        [ScoreItem(sequence, WANT) for sequence in sequences]
    )  # more than one step's tokens and than the cache
    for sequence, outcome in zip(sequences, together, strict=True):
        assert_close(scored(outcome).rows, one(engine, sequence).rows)


# ---- edges


def test_the_longest_sequence_is_scored_but_has_no_row_after_it(engine: VllmEngine):
    longest = Sequence.of(random_ids(17, 500), random_ids(18, 12))
    assert one(engine, longest).rows.count == 12
    [outcome] = engine.score([ScoreItem(longest, Want(topk=1, next=True))])
    assert isinstance(outcome, TooLarge)
    assert outcome.field == "want.next"


def test_the_digests_are_those_of_the_hf_engine(engine: VllmEngine):
    mine, theirs = engine.describe()[0], create_hf({"name": "tiny", "folder": BUNDLED_TEACHER}).describe()[0]
    for name in ("model", "tokenizer_sha256", "template_sha256", "tokenizer_size", "head_rows", "head_sha256", "dtype"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert mine.noise_floor_nats is not None
    assert mine.noise_floor_nats < 1e-5


def test_hidden_states_are_those_of_the_hf_engine(engine: VllmEngine):
    item = ScoreItem(Sequence.of(random_ids(19, 9), random_ids(20, 9)), Want(hidden=True))
    hf = create_hf({"name": "tiny", "folder": BUNDLED_TEACHER})
    mine, theirs = scored(engine.score([item])[0]).rows.hidden, scored(hf.score([item])[0]).rows.hidden
    np.testing.assert_allclose(mine.states, theirs.states, rtol=0, atol=1e-4)


def test_a_failure_inside_vllm_ends_the_process(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch):
    """Nobody knows the state of a core that raised: its host starts another one, and the batch gets an error it may retry."""

    def broken() -> None:
        raise RuntimeError("as if a kernel had failed")

    monkeypatch.setattr(engine._core._core, "step_fn", broken)
    with pytest.raises(SystemExit):
        engine._core.run([Part("broken", np.array([1, 2], np.uint32), Read(0, 0, 2), None, keeps_session=False)], lambda: False)
    engine._core.forget(["broken"])


# ---- options and probes


@pytest.mark.parametrize(
    ("option", "hint"),
    [("gpu_memory_utilisation", "gpu_memory_utilization"), ("max_top", "max_topk"), ("tensor_parallel", "tensor_parallel_size")],
)
def test_an_unknown_option_is_refused_with_the_nearest_of_ours_and_of_vllms(option: str, hint: str):
    with pytest.raises(ConfigurationError) as refused:
        VllmOptions.from_mapping({"name": "t", "folder": "x", option: 1})
    assert refused.value.field == option
    assert hint in refused.value.hint


@pytest.mark.parametrize("option", ["trust_remote_code", "load_format", "model", "worker_extension_cls", "engine_args"])
def test_options_that_would_break_the_engine_are_refused(option: str):
    with pytest.raises(ConfigurationError) as refused:
        VllmOptions.from_mapping({"name": "t", "folder": "x", option: True})
    assert refused.value.field == option


def test_options_of_vllm_keep_their_names():
    options = VllmOptions.from_mapping({"name": "t", "folder": "x", "max_num_seqs": 8, "max_topk": 9})
    assert (options.engine_args, options.max_topk, options.folder) == ({"max_num_seqs": 8}, 9, Path("x"))


def test_a_vllm_without_our_hooks_is_refused_by_name():
    class Runner:
        requests, input_batch, query_start_loc, model = {}, None, None, None

        def _get_prompt_logprobs_dict(self, hidden_states): ...

    with pytest.raises(ConfigurationError, match=r"takes \(hidden_states\) instead of \(hidden_states, num_scheduled_tokens\)"):
        check_runner(Runner())
    with pytest.raises(ConfigurationError, match="no _get_prompt_logprobs_dict"):
        check_runner(object())
    with pytest.raises(ConfigurationError, match=r"no scheduler\.kv_cache_manager"):
        check_core(object())
