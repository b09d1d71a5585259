"""Sequences that arrive together share what they start with: each token is computed once, in both modes, inside a scope only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.client import AsyncTeacherClient, ScoreOptions
from preceptor.config import TeacherSettings
from preceptor.types import Scored, Sequence, TailOf, Want, Window
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_serving.run import running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.engines.hf import create
from preceptor_teacher.engines.hf.sharing import WORTH_TOKENS, find_trunks
from preceptor_teacher.engines.hf.states import MIN_SHARED_TOKENS, shared_prefix
from preceptor_teacher.growing import Growth
from preceptor_teacher.service import TeacherService
from tests.support.hf_scoring import assert_equal_bits, columns, scored
from tests.support.models import TOKENS, random_llama, save


@pytest.fixture(scope="module")
def long_folder(tmp_path_factory):
    """As long as a group of the P5 bar needs."""
    return save(random_llama(4, max_position_embeddings=1024), tmp_path_factory.mktemp("models") / "long")


def unique_tokens(sequences: list[np.ndarray]) -> int:
    """Tokens of the tree that the sequences span."""
    return len({ids[:end].tobytes() for ids in sequences for end in range(1, len(ids) + 1)})


def group_of(rng, prompt: int, responses: list[int]) -> list[Sequence]:
    context = rng.integers(0, TOKENS, prompt)
    return [Sequence.of(context, rng.integers(0, TOKENS, count)) for count in responses]


def score(engine, sequences, *, deterministic=False, kept=True, scopes=None) -> list[Scored]:
    want = Want(sampled=True, topk=4, tail=TailOf.TOPK, deterministic=deterministic)
    scopes = scopes or ["t/j"] * len(sequences)
    growths = [Growth(scope, f"task{i}", open=False, kept=kept) for i, scope in enumerate(scopes)]
    return scored(engine.score_growing([ScoreItem(one, want) for one in sequences], growths))


def computed(outcomes: list[Scored]) -> int:
    return sum(one.receipt.tokens_computed for one in outcomes)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_eight_rollouts_of_one_prompt_that_arrive_at_once_compute_it_once(long_folder, deterministic, kept, rng):
    sequences = group_of(rng, 512, [256] * 8)
    engine = create({"name": "m", "folder": long_folder, "max_sequence_tokens": 1024})
    outcomes = score(engine, sequences, deterministic=deterministic, kept=kept)
    unique, predicting = (unique_tokens([one.ids[:end] for one in sequences]) for end in (768, 767))
    assert predicting <= computed(outcomes) <= 1.05 * unique
    assert 8 * 767 <= computed(outcomes) + sum(one.receipt.tokens_reused for one in outcomes) <= 8 * 768
    alone, shared = (
        score(create({"name": "m", "folder": long_folder}), sequences[5:6], deterministic=deterministic)[0],
        outcomes[5],
    )
    if deterministic:
        assert_equal_bits(columns(shared.rows), columns(alone.rows))
    assert shared.rows.sampled == pytest.approx(alone.rows.sampled, abs=1e-4)
    assert (engine._scorers[0]._states.tokens > 0) is kept


@pytest.mark.parametrize("deterministic", [True, False])
def test_two_tenants_with_one_prompt_share_nothing(long_folder, deterministic, rng):
    sequences = group_of(rng, 96, [8, 8])
    for kept in (True, False):
        engine = create({"name": "m", "folder": long_folder})
        outcomes = score(engine, sequences, deterministic=deterministic, kept=kept, scopes=["a/j", "b/j"])
        assert [one.receipt.tokens_reused for one in outcomes] == [0, 0]
        assert computed(outcomes) == 2 * (104 if deterministic else 103)


def test_nested_prefixes_are_shared_at_every_level_and_change_no_score(long_folder, rng):
    """Groups under one system prompt, a second turn in one of them, and a stranger."""
    system = rng.integers(0, TOKENS, 64)
    sequences = []
    for _ in range(3):
        prompt = np.concatenate([system, rng.integers(0, TOKENS, 50)])
        sequences += [Sequence.of(prompt, rng.integers(0, TOKENS, int(rng.integers(5, 40)))) for _ in range(4)]
    sequences += group_of(rng, 30, [9])
    engine = create({"name": "m", "folder": long_folder})
    outcomes = score(engine, sequences)
    per_row = len(sequences)  # the last token of a prompt is read by each, for the row that it predicts
    assert computed(outcomes) <= unique_tokens([one.ids for one in sequences]) + per_row
    plain = scored(create({"name": "m", "folder": long_folder}).score([ScoreItem(one, Want(sampled=True)) for one in sequences]))
    for one, other in zip(outcomes, plain, strict=True):
        assert one.rows.sampled == pytest.approx(other.rows.sampled, abs=2e-5)
    assert score(engine, sequences[:1], deterministic=False)[0].receipt.tokens_reused == len(sequences[0].segments[0].ids) - 1


def test_a_short_prefix_that_only_one_of_them_knows_is_read_by_nobody(long_folder, rng):
    """Too short to be found in another task's state, but worth sharing by so many: the growing task lends its own."""
    said = rng.integers(0, TOKENS, MIN_SHARED_TOKENS // 2)
    prompts = [np.concatenate([said, rng.integers(0, TOKENS, 20)]) for _ in range(2 * WORTH_TOKENS // len(said) + 1)]
    sequences = [Sequence.of(prompt, rng.integers(0, TOKENS, 12)) for prompt in prompts]
    engine = create({"name": "m", "folder": long_folder})
    score(engine, sequences[:1])
    outcomes = score(engine, sequences)
    plain = scored(create({"name": "m", "folder": long_folder}).score([ScoreItem(one, Want(sampled=True)) for one in sequences]))
    for one, other in zip(outcomes, plain, strict=True):
        assert one.rows.sampled == pytest.approx(other.rows.sampled, abs=2e-5)
    assert {one.receipt.tokens_reused for one in outcomes[1:]} == {len(said)}
    assert {one.receipt.tokens_computed for one in outcomes[1:]} == {20 + 12 - 1}


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_second_turn_reads_its_new_tokens_only(long_folder, deterministic, rng):
    engine = create({"name": "m", "folder": long_folder})
    first = group_of(rng, 64, [32] * 3)
    score(engine, first, deterministic=deterministic)
    growths = [Growth("t/j", f"task{i}", open=False) for i in range(3)]
    want = Want(sampled=True, deterministic=deterministic, window=Window(32, 64))
    items = [ScoreItem(second_turn(one, rng), want) for one in first]
    outcomes = scored(engine.score_growing(items, growths))
    assert computed(outcomes) == 3 * (32 + 32)
    assert sum(one.receipt.tokens_recomputed for one in outcomes) == 0


def second_turn(first: Sequence, rng) -> Sequence:
    said: list[Any] = [(segment.kind, segment.ids) for segment in first.segments]
    return Sequence.of_turns([*said, ("context", rng.integers(0, TOKENS, 32)), ("response", rng.integers(0, TOKENS, 32))])


prefixes = st.lists(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([1, 5, WORTH_TOKENS - 1, WORTH_TOKENS, 40])), min_size=1, max_size=3
    ).map(lambda parts: np.concatenate([np.full(count, token, np.uint32) for token, count in parts])),
    max_size=8,
)


@given(prefixes, st.data())
def test_waves_of_trunks_end_cost_no_more_than_they_save_and_leave_little_to_share(ids, data):
    known = [data.draw(st.integers(0, len(one))) for one in ids]
    alone, spent = sum(len(one) - k for one, k in zip(ids, known, strict=True)), 0
    while trunks := find_trunks(ids, known):
        seen = [member for trunk in trunks for member in trunk.members]
        assert len(seen) == len(set(seen))
        for trunk in trunks:
            have = min(known[trunk.knows_most], trunk.tokens)
            assert shared_prefix(ids[trunk.knows_most], ids[trunk.members[0]]) >= trunk.tokens
            spent += trunk.tokens - have
            for member in trunk.members:
                assert known[member] < trunk.tokens <= len(ids[member])
                assert (ids[member][: trunk.tokens] == ids[trunk.members[0]][: trunk.tokens]).all()
                known[member] = trunk.tokens
    rest = sum(len(one) - k for one, k in zip(ids, known, strict=True))
    assert spent + rest <= alone
    for i, one in enumerate(ids):
        for j in range(i):
            assert shared_prefix(one, ids[j]) - max(known[i], known[j]) < WORTH_TOKENS


async def test_rollouts_of_one_prompt_in_one_request_share_it_and_two_requests_of_other_jobs_do_not(long_folder, rng):
    sequences = group_of(rng, 300, [20] * 6)
    spec = TeacherSpec(EngineSpec("m", "hf", {"name": "m", "folder": str(long_folder)}))
    items = [ScoreItem(one, Want(sampled=True)) for one in sequences]
    service = TeacherService((spec,), in_this_process)
    async with (
        running(service, TeacherSettings(grpc_port=0, rest_port=0)) as house,
        AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client,
    ):
        got = [scored(await client.score("m", items, ScoreOptions(job=job), deadline_s=60)) for job in ("one", "other")]
    for outcomes in got:
        assert computed(outcomes) <= 1.05 * unique_tokens([one.ids for one in sequences])
