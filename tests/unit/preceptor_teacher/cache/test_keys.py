"""What a key depends on: each field of a question and of who answers it, one at a time; and what is not remembered at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preceptor.types import AdapterRef, Grade, ModelInfo, RaggedIds, ScoreItem, Sequence, TailOf, Want, Window
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_teacher.cache.lookup import lookup_of
from preceptor_teacher.cache.secrets import TenantSecrets, root_secret
from tests.unit.preceptor_teacher.cache.house import computed_items, house, score

LISTS = RaggedIds.from_rows([[5, 1], [2], [], [0, 60]])
PLAIN = Sequence.of([1, 2, 3], [4, 5, 6, 7])
WANT = Want(sampled=True, topk=4, candidates=LISTS, tail=TailOf.UNION, samples=2, sample_seed=9, window=Window(0, 4))
CUT = RaggedIds.from_rows([[5, 1], [2], []])
OTHER_WANTS = {
    "temperature": replace(WANT, temperature=1.5),
    "sampled": replace(WANT, sampled=False),
    "entropy": replace(WANT, entropy=True),
    "hidden": replace(WANT, hidden=True),
    "next": replace(WANT, next=True, candidates=RaggedIds.from_rows([[5, 1], [2], [], [0, 60], []])),
    "topk": replace(WANT, topk=5),
    "tail": replace(WANT, tail=TailOf.TOPK),
    "samples": replace(WANT, samples=3),
    "seed": replace(WANT, sample_seed=10),
    "grade f16": replace(WANT, grade=Grade.F16),
    "grade u8": replace(WANT, grade=Grade.U8),
    "deterministic": replace(WANT, deterministic=True),
    "candidate ids": replace(WANT, candidates=RaggedIds.from_rows([[5, 1], [3], [], [0, 60]])),
    "order of candidates": replace(WANT, candidates=RaggedIds.from_rows([[1, 5], [2], [], [0, 60]])),
    "rows of candidates": replace(WANT, candidates=RaggedIds.from_rows([[5], [1, 2], [], [0, 60]])),
    "no candidates": replace(WANT, candidates=None),
    "window's end": replace(WANT, window=Window(0, 3), candidates=CUT),
    "window's start": replace(WANT, window=Window(1, 4), candidates=CUT),
}
OTHER_SEQUENCES = {
    "context id": Sequence.of([1, 2, 9], [4, 5, 6, 7]),
    "response id": Sequence.of([1, 2, 3], [4, 5, 6, 8]),
    "longer context": Sequence.of([9, 1, 2, 3], [4, 5, 6, 7]),
    "two turns": Sequence.of_turns([("context", [1, 2]), ("response", [4]), ("context", [3]), ("response", [5, 6, 7])]),
    "context behind": Sequence.of_turns([("context", [1, 2, 3]), ("response", [4, 5, 6, 7]), ("context", [8])]),
}
SECRETS = TenantSecrets(b"s" * 32)


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    return FakeEngine(FakeOptions(name="fake")).describe()[0]


def keys(info: ModelInfo, item=ScoreItem(PLAIN, WANT), engine="fake 1 {}", tenant="acme"):  # noqa: B008 - frozen
    lookup = lookup_of(item, info, engine, SECRETS.of(tenant), grows=False)
    assert lookup is not None
    return set(lookup.keys)


async def test_the_same_question_hits_and_each_other_one_misses_until_it_is_asked_again():
    async with house() as at:
        asked = [ScoreItem(PLAIN, WANT), *(ScoreItem(PLAIN, want) for want in OTHER_WANTS.values())]
        asked += [ScoreItem(sequence, WANT) for sequence in OTHER_SEQUENCES.values()]
        for number, item in enumerate(asked, 1):
            [first] = await score(at, item)
            assert computed_items(at) == number, item.want
            [second] = await score(at, item)
            assert (computed_items(at), second.receipt.tokens_computed) == (number, 0)
            assert first.receipt.tokens_computed > 0


@pytest.mark.parametrize("changed", OTHER_WANTS)
def test_a_want_that_differs_in_one_field_has_no_key_in_common(info, changed):
    assert keys(info).isdisjoint(keys(info, ScoreItem(PLAIN, OTHER_WANTS[changed])))


@pytest.mark.parametrize("changed", OTHER_SEQUENCES)
def test_a_sequence_that_differs_has_no_key_in_common(info, changed):
    assert keys(info).isdisjoint(keys(info, ScoreItem(OTHER_SEQUENCES[changed], WANT)))


def test_the_appends_of_a_log_are_the_same_question_as_the_whole(info):
    parts = [("context", [1]), ("context", [2, 3]), ("response", [4, 5]), ("response", [6]), ("response", [7])]
    assert keys(info) == keys(info, ScoreItem(Sequence.of_turns(parts), WANT))


def test_the_absent_window_is_the_window_of_all_rows(info):
    assert keys(info) == keys(info, ScoreItem(PLAIN, replace(WANT, window=None)))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"run": "r"},
        {"epoch": 1},
        {"step": 1},
        {"manifest_sha256": bytes(32)},
        {"adapter": AdapterRef("lora", bytes(32))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_weights_have_other_keys(info, change):
    assert keys(info).isdisjoint(keys(replace(info, model=replace(info.model, **change))))


def test_who_computes_and_for_whom_is_in_the_key(info):
    mine = keys(info)
    assert mine == keys(info)
    assert mine.isdisjoint(keys(replace(info, numerics_version="2")))
    assert mine.isdisjoint(keys(replace(info, dtype="bf16")))
    assert mine.isdisjoint(keys(info, engine="fake 2 {}"))
    assert mine.isdisjoint(keys(info, engine='fake 1 {"threads": 2}'))
    assert mine.isdisjoint(keys(info, tenant="other"))


async def test_an_engine_of_other_options_or_another_version_of_it_misses(tmp_path):
    item = ScoreItem(PLAIN, WANT)
    for options in ({}, {"states": 256}, {"seed": 1}):
        async with house(options=options, score_cache_folder=tmp_path / "scores") as at:
            await score(at, item)
            assert computed_items(at) == 1
    async with house(score_cache_folder=tmp_path / "scores") as at:
        await score(at, item)
        assert computed_items(at) == 0


@pytest.mark.parametrize("want", [Want(samples=2), Want(sampled=True, window=Window(2, 2))], ids=["no seed", "no rows"])
async def test_what_nobody_can_ask_for_again_is_not_remembered(want):
    async with house() as at:
        for number in (1, 2):
            await score(at, ScoreItem(PLAIN, want))
            assert computed_items(at) == number


async def test_a_refused_item_is_asked_for_again():
    async with house(options={"refuse_token": 7}) as at:
        for number in (1, 2):
            await score(at, ScoreItem(PLAIN, Want(sampled=True)))
            assert computed_items(at) == number


def test_a_tenants_secret_follows_from_the_folder_and_is_the_services_alone(tmp_path):
    roots = [root_secret(tmp_path) for _ in range(2)]
    assert roots[0] == roots[1] != root_secret(None)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert TenantSecrets(roots[0]).of("acme") == TenantSecrets(roots[1]).of("acme") != TenantSecrets(roots[0]).of("acmf")
