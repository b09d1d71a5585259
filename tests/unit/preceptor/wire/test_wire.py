"""Every typed value survives its message, and every message that lies is refused by name."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import wire
from preceptor.errors import Corrupt, InvalidArgument
from preceptor.types import (
    AdapterRef,
    Behaviour,
    CacheTier,
    Capabilities,
    CriterionVerdict,
    FinishReason,
    Grade,
    Hidden,
    HiddenDtype,
    IdLogprobs,
    ModelInfo,
    ModelRef,
    RaggedIds,
    RaggedLogprobs,
    Receipt,
    Rollout,
    RolloutId,
    Rows,
    Sequence,
    TailOf,
    TimeSplit,
    Validity,
    Verdict,
    Want,
    Window,
)
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2

REF = ModelRef("big", "run-1", 3, 40, b"\1" * 32, AdapterRef("math", b"\2" * 32))
id_lists = st.lists(st.integers(0, 2**32 - 1), max_size=5)


@given(st.lists(st.tuples(st.sampled_from(["context", "response"]), id_lists), min_size=1, max_size=6))
def test_sequences_keep_their_turns_and_index_rows_by_response_token(turns):
    sequence = wire.sequence_from_proto(wire.sequence_to_proto(Sequence.of_turns(turns)))
    assert [(s.kind, s.ids.tolist()) for s in sequence.segments] == [(k, list(i)) for k, i in turns]
    flat = [(kind, token) for kind, ids in turns for token in ids]
    assert sequence.targets.tolist() == [i for i, (kind, _) in enumerate(flat) if kind == "response"]
    assert sequence.response_ids.tolist() == [token for kind, token in flat if kind == "response"]


@given(st.lists(id_lists, max_size=6), st.data())
def test_ragged_lists_survive_and_cut_into_windows(lists, data):
    ragged = wire.ragged_from_proto(wire.ragged_to_proto(RaggedIds.from_rows(lists)))
    assert [ragged.row(i).tolist() for i in range(ragged.row_count)] == lists
    start = data.draw(st.integers(0, len(lists)))
    end = data.draw(st.integers(start, len(lists)))
    part = ragged.rows_between(start, end)
    assert [part.row(i).tolist() for i in range(part.row_count)] == lists[start:end]


def test_a_want_survives_field_for_field():
    want = Want(
        sampled=True,
        topk=5,
        entropy=True,
        tail=TailOf.TOPK,
        samples=3,
        sample_seed=2**64 - 1,
        hidden=True,
        next=True,
        window=Window(2, 9),
        temperature=0.5,
        grade=Grade.U8,
        deterministic=True,
    )
    assert wire.want_from_proto(wire.want_to_proto(want)) == want
    assert wire.want_from_proto(common_pb2.Want()) == Want()
    from_log = replace(want, log_candidates=True)
    assert wire.want_from_proto(wire.want_to_proto(from_log)) == from_log
    listed = wire.want_from_proto(wire.want_to_proto(replace(want, candidates=RaggedIds.from_rows([[7, 8], [9]]))))
    assert listed.candidates is not None
    assert listed.candidates.row(1).tolist() == [9]


def test_an_unknown_enum_number_names_its_field():
    with pytest.raises(InvalidArgument) as caught:
        wire.want_from_proto(common_pb2.Want(tail=9))  # pyright: ignore[reportArgumentType]
    assert (caught.value.field, caught.value.value) == ("want.tail", "9")


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (lambda: wire.receipt_from_proto(common_pb2.Receipt(grade=77)), "receipt.grade"),
        (lambda: wire.receipt_from_proto(common_pb2.Receipt(cache=77)), "receipt.cache"),
        (lambda: wire.capabilities_from_proto(common_pb2.Capabilities(grades=[0, 77])), "capabilities.grades"),
        (lambda: wire.rollout_from_proto(rollout_pb2.RolloutResult(finish_reason=77)), "finish_reason"),
        (lambda: wire.verdict_from_proto(teacher_pb2.Verdict(validity=77)), "verdict.validity"),
    ],
)
def test_an_enum_number_of_a_newer_peer_is_refused_by_name(read: Callable[[], object], field: str):
    with pytest.raises(Corrupt) as caught:
        read()
    assert (caught.value.field, caught.value.value) == (field, "77")


def test_half_an_id_is_refused_by_name():
    with pytest.raises(Corrupt) as caught:
        wire.ragged_from_proto(common_pb2.CandidateIds(offsets_u32le=bytes(8), ids_u32le=b"123456"))
    assert (caught.value.field, caught.value.value) == ("candidates.ids_u32le", "6 bytes")


def test_models_and_receipts_survive_field_for_field():
    info = ModelInfo(
        model=REF,
        tokenizer_sha256=b"\3" * 32,
        template_sha256=b"\4" * 32,
        tokenizer_size=90,
        head_rows=96,
        dtype="float32",
        engine="fake",
        engine_version="1",
        numerics_version="2",
        capabilities=Capabilities(sampled=True, max_topk=64, grades=(Grade.F32, Grade.U8), row_cost=0.25, seeds=True),
        head_sha256=b"\5" * 32,
        aliases=("a", "b"),
        noise_floor_nats=0.5,
    )
    assert wire.model_info_from_proto(wire.model_info_to_proto(info)) == info
    unmeasured = replace(info, noise_floor_nats=None)
    assert wire.model_info_from_proto(wire.model_info_to_proto(unmeasured)) == unmeasured
    receipt = Receipt(
        model=REF,
        tokenizer_sha256=b"\1" * 32,
        template_sha256=b"\2" * 32,
        engine="hf",
        engine_version="5",
        numerics_version="1",
        dtype="float32",
        temperature=0.5,
        grade=Grade.F16,
        error_bound_nats=0.25,
        clipped_low=3,
        tokens_computed=4,
        tokens_reused=5,
        tokens_recomputed=6,
        cache=CacheTier.DISK,
        head_sha256=b"\3" * 32,
        time=TimeSplit(0.5, 1.0, 2.0, 4.0),
    )
    assert wire.receipt_from_proto(wire.receipt_to_proto(receipt)) == receipt


def verdict() -> Verdict:
    return Verdict(
        Validity.OK,
        0.75,
        reason="",
        critique="the second step carries wrongly",
        calls=2,
        prompt_tokens=300,
        completion_tokens=20,
        receipt=None,
        criteria=(
            CriterionVerdict("correct", Validity.OK, 1.0, "it is 1483", "It is right.", 3.0),
            CriterionVerdict("clear", Validity.MISSING_PROVIDER, None, "no number"),
        ),
        step_rewards=(0.5, -1.0, 0.0),
        agreement=0.25,
        step_ends=(3, 3, 9),
        cost_usd=0.0,
    )


def test_verdicts_survive_field_for_field():
    assert wire.verdict_from_proto(wire.verdict_to_proto(verdict())) == verdict()
    unpriced = replace(verdict(), cost_usd=None, agreement=None, criteria=(), step_rewards=(), step_ends=())
    assert wire.verdict_from_proto(wire.verdict_to_proto(unpriced)) == unpriced


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda message: message.ClearField("reward"), None),
        (lambda message: setattr(message, "reward", math.nan), "verdict.reward"),
        (lambda message: setattr(message.criteria[1], "score", 0.5), "verdict.criteria[1].score"),
        (lambda message: setattr(message, "step_rewards_f32le", b"12345"), "verdict.step_rewards_f32le"),
        (lambda message: setattr(message, "step_ends_u32le", bytes(8)), "verdict.step_ends_u32le"),
        (lambda message: setattr(message, "step_ends_u32le", b"\2\0\0\0\1\0\0\0\1\0\0\0"), "verdict.step_ends_u32le"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_refused_by_name(spoil: Callable[[Any], object], field: str | None):
    message = wire.verdict_to_proto(verdict())
    spoil(message)
    if field is None:
        assert wire.verdict_from_proto(message).reward == 0.0  # a zero is not sent, and is a reward
        return
    with pytest.raises(Corrupt) as caught:
        wire.verdict_from_proto(message)
    assert caught.value.field == field


def test_rollouts_survive_and_behaviour_columns_must_fit():
    rollout = Rollout(
        id=RolloutId("run-1", 4, 17, 2, 1),
        sequence=Sequence.of([1, 2], [3, 4, 5]),
        behaviour=Behaviour(versions=np.full(3, 7, np.uint32), logprob_policy=np.array([-1.0, np.nan, -2.0], np.float32)),
        finish_reason=FinishReason.EOS,
        model=REF,
        student_topk=RaggedIds.from_rows([[1], [2], [3, 4]]),
        text="hi",
    )
    message = wire.rollout_to_proto(rollout)
    back = wire.rollout_from_proto(message)
    assert (back.id, back.finish_reason, back.model, back.text) == (rollout.id, rollout.finish_reason, REF, "hi")
    assert back.behaviour.versions is not None
    assert back.behaviour.versions.tolist() == [7, 7, 7]
    np.testing.assert_array_equal(back.behaviour.logprob_policy, rollout.behaviour.logprob_policy)
    assert back.behaviour.logprob_behaviour is None
    message.behaviour.versions_u32le += b"\0\0\0\0"
    with pytest.raises(Corrupt, match="versions_u32le"):
        wire.rollout_from_proto(message)


def full_rows(head_rows: int) -> Rows:
    rng = np.random.default_rng(0)
    validity = np.array([Validity.OK, Validity.MISSING_CAP, Validity.OK], np.uint8)
    lost = validity != Validity.OK

    def column(*shape: int) -> np.ndarray:
        values = -rng.exponential(3, shape).astype(np.float32)
        values[lost] = np.nan
        return values

    offsets = np.array([0, 2, 2, 5], np.uint32)
    ids = rng.integers(0, head_rows, (3, 4)).astype(np.uint32)
    return Rows(
        start=6,
        validity=validity,
        sampled=column(3),
        entropy=column(3),
        tail=column(3),
        topk=IdLogprobs(ids, column(3, 4)),
        candidates=RaggedLogprobs(offsets, -rng.exponential(3, 5).astype(np.float32)),
        samples=IdLogprobs(ids[:, :1], column(3, 1)),
        hidden=Hidden(column(3, 8), HiddenDtype.F32, b"\7" * 32),
        has_next=True,
    )


@pytest.mark.parametrize("head_rows", [300, 65_536, 65_537, 151_936])
@pytest.mark.parametrize("grade", list(Grade))
def test_rows_survive_in_every_grade_within_the_bound_they_declare(grade, head_rows):
    rows = full_rows(head_rows)
    message, cost = wire.rows_to_proto(rows, grade, head_rows)
    back = wire.rows_from_proto(common_pb2.Rows.FromString(message.SerializeToString()), rows.candidates.offsets, head_rows)
    assert (back.start, back.end, back.has_next) == (6, 9, True)
    for name in ("validity", "sampled", "entropy", "tail"):
        np.testing.assert_array_equal(getattr(back, name), getattr(rows, name))
    for name in ("topk", "samples"):
        np.testing.assert_array_equal(getattr(back, name).ids, getattr(rows, name).ids)
        np.testing.assert_allclose(getattr(back, name).logprobs, getattr(rows, name).logprobs, rtol=0, atol=cost.error_bound_nats)
    np.testing.assert_allclose(back.candidates.row(2), rows.candidates.row(2), rtol=0, atol=cost.error_bound_nats)
    np.testing.assert_array_equal(back.hidden.states, rows.hidden.states)
    assert (cost.error_bound_nats == 0) == (grade is Grade.F32)
    assert not message.candidates.offsets_u32le, "the request carried them"


def test_signals_that_were_not_wanted_stay_absent():
    rows = Rows(start=0, validity=np.zeros(2, np.uint8), sampled=np.zeros(2, np.float32))
    back = wire.rows_from_proto(wire.rows_to_proto(rows, Grade.F32, 10)[0])
    absent = (back.entropy, back.tail, back.topk, back.candidates, back.samples, back.hidden)
    assert absent == (None,) * 6


@pytest.mark.parametrize("field", ["validity", "sampled_f32le", "entropy_f32le", "tail_f32le"])
def test_a_column_of_another_length_is_refused(field):
    message, _ = wire.rows_to_proto(full_rows(300), Grade.F32, 300)
    setattr(message, field, getattr(message, field) + b"\0\0\0\0")
    with pytest.raises(Corrupt):
        wire.rows_from_proto(message, np.array([0, 2, 2, 5]))
