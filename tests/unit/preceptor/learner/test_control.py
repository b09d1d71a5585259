"""The control deals whole teacher rows to other places, and what stands there is still a distribution."""

# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import math

import numpy as np
import pytest

from preceptor import wire
from preceptor.learner.control import permuted
from preceptor.types import Grade, Hidden, HiddenDtype, IdLogprobs, RaggedIds, RaggedLogprobs, RolloutId, Rows, Sequence
from preceptor_proto.v1 import student_pb2

VOCABULARY = 20


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def item(prompt: int, rows: int, generator: np.random.Generator) -> student_pb2.TrainItem:
    """A rollout with a real distribution behind every row: top-2, two listed ids, the drawn token, and the rest as tail."""
    ids = generator.integers(0, VOCABULARY, rows)
    lists = RaggedIds.from_rows([generator.choice(VOCABULARY, 2, replace=False) for _ in range(rows)])
    teacher = log_softmax(generator.normal(size=(rows, VOCABULARY)) * 2)
    top = np.argsort(-teacher, axis=1)[:, :2].astype(np.uint32)
    tail = np.empty(rows, np.float32)
    for r in range(rows):
        rest = np.ones(VOCABULARY, bool)
        rest[[*top[r], *lists.row(r), ids[r]]] = False
        tail[r] = np.log(np.exp(teacher[r, rest]).sum())
    listed = np.concatenate([teacher[r, lists.row(r)] for r in range(rows)]).astype(np.float32)
    typed = Rows(
        0,
        np.zeros(rows, np.uint8),
        teacher[np.arange(rows), ids].astype(np.float32),
        None,
        tail,
        IdLogprobs(top, np.take_along_axis(teacher, top.astype(int), 1).astype(np.float32)),
        RaggedLogprobs(lists.offsets, listed),
    )
    message = student_pb2.TrainItem(
        id=wire.rollout_id_to_proto(RolloutId("r", 0, prompt, 0)),
        sequence=wire.sequence_to_proto(Sequence.of([1, 2], ids)),
        student_topk=wire.ragged_to_proto(lists),
        weight=1.0,
    )
    message.scores.add(source="tutor", rows=wire.rows_to_proto(typed, Grade.F32, VOCABULARY)[0])
    return message


@pytest.fixture
def items() -> list[student_pb2.TrainItem]:
    generator = np.random.default_rng(3)
    return [item(prompt, rows, generator) for prompt, rows in enumerate((4, 1, 7, 3))]


def read(message: student_pb2.TrainItem) -> tuple[Rows, RaggedIds]:
    scores = message.scores[0]
    lists = wire.ragged_from_proto(scores.candidates if scores.HasField("candidates") else message.student_topk)
    return wire.rows_from_proto(scores.rows, lists.offsets), lists


def mass(rows: Rows, lists: RaggedIds, targets: np.ndarray, r: int) -> float:
    """All probability of a row: each listed token once, the drawn one included, and the tail."""
    assert rows.topk is not None
    assert rows.candidates is not None
    assert rows.sampled is not None
    assert rows.tail is not None
    known = dict(zip(rows.topk.ids[r].tolist(), rows.topk.logprobs[r].tolist(), strict=True))
    known |= dict(zip(lists.row(r).tolist(), rows.candidates.row(r).tolist(), strict=True))
    known |= {int(targets[r]): float(rows.sampled[r])}
    return sum(map(math.exp, known.values())) + math.exp(rows.tail[r])


def test_every_row_stays_a_distribution_over_the_tokens_of_its_new_place(items: list[student_pb2.TrainItem]) -> None:
    for message in permuted(items, 7, 0, VOCABULARY):
        rows, lists = read(message)
        targets = wire.sequence_from_proto(message.sequence).response_ids
        for r in range(rows.count):
            assert mass(rows, lists, targets, r) == pytest.approx(1.0, abs=1e-5)


def test_rows_are_dealt_and_none_is_lost_or_doubled(items: list[student_pb2.TrainItem]) -> None:
    before = [bytes(rows.topk.logprobs[r].tobytes()) for rows, _ in map(read, items) for r in range(rows.count)]
    after = [
        bytes(rows.topk.logprobs[r].tobytes())
        for rows, _ in map(read, permuted(items, 7, 0, VOCABULARY))
        for r in range(rows.count)
    ]
    assert sorted(before) == sorted(after)
    assert sum(map(bytes.__eq__, before, after)) <= 3


def test_only_scores_move(items: list[student_pb2.TrainItem]) -> None:
    for old, new in zip(items, permuted(items, 7, 0, VOCABULARY), strict=True):
        assert (old.id, old.sequence, old.student_topk, old.weight) == (new.id, new.sequence, new.student_topk, new.weight)


def test_seed_and_step_decide_the_order(items: list[student_pb2.TrainItem]) -> None:
    first = permuted(items, 7, 0, VOCABULARY)
    assert permuted(items, 7, 0, VOCABULARY) == first
    assert permuted(items, 7, 1, VOCABULARY) != first
    assert permuted(items, 8, 0, VOCABULARY) != first


def test_rewards_of_whole_rollouts_are_dealt_too(items: list[student_pb2.TrainItem]) -> None:
    for number, message in enumerate(items):
        message.scores.add(source="judge", reward=float(number))
    rewards = [
        scores.reward for message in permuted(items, 7, 0, VOCABULARY) for scores in message.scores if scores.source == "judge"
    ]
    assert sorted(rewards) == [0.0, 1.0, 2.0, 3.0]
    assert rewards != [0.0, 1.0, 2.0, 3.0]


def test_hidden_states_are_dealt_as_whole_rows(items: list[student_pb2.TrainItem]) -> None:
    head, before = bytes(range(32)), []
    for number, message in enumerate(items):
        rows, _ = read(message)
        states = np.arange(3 * rows.count, dtype=np.float32).reshape(rows.count, 3) + 100 * number
        before += states.tolist()
        blank = Rows(0, rows.validity, hidden=Hidden(states, HiddenDtype.F32, head))
        message.scores[0].rows.CopyFrom(wire.rows_to_proto(blank, Grade.F32, VOCABULARY)[0])
    found = [wire.rows_from_proto(message.scores[0].rows, None).hidden for message in permuted(items, 7, 0, VOCABULARY)]
    assert {one.head_sha256 for one in found if one} == {head}
    after = [row for one in found if one for row in one.states.tolist()]
    assert sorted(after) == sorted(before)
    assert after != before


def test_rows_without_a_valid_score_stay_without_one(items: list[student_pb2.TrainItem]) -> None:
    rows, lists = read(items[0])
    validity = np.full(rows.count, 2, np.uint8)
    nothing = np.full(rows.count, np.nan, np.float32)
    assert rows.topk is not None
    assert rows.candidates is not None
    blank = Rows(
        0,
        validity,
        nothing,
        None,
        nothing,
        IdLogprobs(rows.topk.ids, np.full_like(rows.topk.logprobs, np.nan)),
        RaggedLogprobs(lists.offsets, np.full_like(rows.candidates.logprobs, np.nan)),
    )
    items[0].scores[0].rows.CopyFrom(wire.rows_to_proto(blank, Grade.F32, VOCABULARY)[0])
    found = [read(message)[0] for message in permuted(items, 7, 0, VOCABULARY)]
    assert sum(int((rows.validity == 2).sum()) for rows in found) == rows.count
