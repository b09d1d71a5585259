"""Pieces and bytes: what is cut and joined is what the engine would have sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import wire
from preceptor.types import CacheTier, Grade, RaggedIds, ScoreItem, Sequence, TailOf, Want, Window
from preceptor_proto.v1 import common_pb2
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_teacher.cache.lookup import entries_of, lookup_of, result_of
from preceptor_teacher.cache.pieces import pieces_of
from preceptor_teacher.cache.planes import cut_rows, grade_cost, join_rows
from preceptor_teacher.grid import CELL_TOKENS, complete_tokens

ENGINE = FakeEngine(FakeOptions(name="fake", head_rows=61))
HEAD_ROWS = 61


def rows_of(item: ScoreItem) -> tuple[common_pb2.Rows, wire.rows.GradeCost]:
    [outcome] = ENGINE.score([item])
    return wire.rows_to_proto(outcome.rows, item.want.grade, HEAD_ROWS)


@st.composite
def items(draw) -> ScoreItem:
    turns = [("context", draw(st.lists(st.integers(0, 60), min_size=1, max_size=40)))]
    for _ in range(draw(st.integers(1, 3))):
        turns.append(("response", draw(st.lists(st.integers(0, 60), min_size=1, max_size=50))))
        if draw(st.booleans()):
            turns.append(("context", draw(st.lists(st.integers(0, 60), max_size=20))))
    sequence = Sequence.of_turns(turns)
    start = draw(st.integers(0, sequence.row_count - 1))
    end = draw(st.integers(start + 1, sequence.row_count))
    with_next = end == sequence.row_count and draw(st.booleans())
    lists = [draw(st.lists(st.integers(0, 60), max_size=4)) for _ in range(end - start + with_next)]
    want = Want(
        sampled=True,
        topk=draw(st.sampled_from([0, 3])),
        candidates=RaggedIds.from_rows(lists) if draw(st.booleans()) else None,
        entropy=draw(st.booleans()),
        tail=TailOf.UNION,
        samples=draw(st.sampled_from([0, 2])),
        sample_seed=5,
        hidden=draw(st.booleans()),
        next=with_next,
        window=Window(start, end),
        temperature=draw(st.sampled_from([1.0, 0.05])),  # so cold that u8 clips
        grade=draw(st.sampled_from(list(Grade))),
        deterministic=draw(st.booleans()),
    )
    return ScoreItem(sequence, want)


@given(items())
def test_the_pieces_of_an_item_are_its_rows_in_order_and_each_is_what_it_says(item):
    whole, _ = rows_of(item)
    pieces = pieces_of(item, grows=False)
    assert [piece.start for piece in pieces] == [whole.start, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == whole.start + whole.count
    lists = item.want.candidates
    parts = [cut_rows(whole, piece.start, piece.end, None if lists is None else lists.offsets) for piece in pieces]
    for piece, part in zip(pieces, parts, strict=True):
        assert part == rows_of(piece.item)[0]
    assert join_rows(parts) == whole


@given(items())
def test_a_hit_is_the_reply_with_a_receipt_that_says_so(item):
    whole, cost = rows_of(item)
    info = ENGINE.describe()[0]
    lookup = lookup_of(item, info, "fake", b"secret", grows=False)
    entries = dict(entries_of(lookup, whole))
    hit = result_of(lookup, [entries[key] for key in lookup.keys], CacheTier.DISK)
    assert hit.rows == whole
    receipt = wire.receipt_from_proto(hit.receipt)
    assert (receipt.tokens_computed, receipt.cache, receipt.model) == (0, CacheTier.DISK, info.model)
    assert (receipt.grade, receipt.temperature) == (item.want.grade, item.want.temperature)
    assert (receipt.error_bound_nats, receipt.clipped_low) == (pytest.approx(cost.error_bound_nats, rel=1e-7), cost.clipped_low)


@given(items(), st.data())
def test_a_deterministic_task_that_grows_leaves_pieces_that_the_closed_one_finds(item, data):
    """However the tokens arrived: the keys of complete cells are those of the whole sequence."""
    want = replace(item.want, deterministic=True, window=None, next=False, candidates=None)
    whole = pieces_of(ScoreItem(item.sequence, want), grows=False)
    known = data.draw(st.integers(1, item.sequence.row_count), label="rows known")
    tokens = int(item.sequence.targets[known - 1]) + 1
    turns = []
    for segment in item.sequence.segments:
        turns.append((segment.kind, segment.ids[: max(0, tokens - sum(len(ids) for _, ids in turns))]))
    part = pieces_of(ScoreItem(Sequence.of_turns(turns), want), grows=True)
    assert [piece.item.want for piece in part] == [piece.item.want for piece in whole[: len(part)]]
    info = ENGINE.describe()[0]

    def keys(sequence, grows):
        lookup = lookup_of(ScoreItem(sequence, want), info, "fake", b"secret", grows=grows)
        return () if lookup is None else lookup.keys

    grown = keys(Sequence.of_turns(turns), True)
    assert len(grown) == len(part)
    assert grown == keys(item.sequence, False)[: len(grown)]
    assert all(int(item.sequence.targets[piece.end - 1]) <= complete_tokens(tokens) for piece in part)


def test_outside_deterministic_mode_an_item_is_one_piece_and_a_growing_one_none():
    item = ScoreItem(Sequence.of(range(40), range(50)), Want(sampled=True))
    assert [(piece.start, piece.end) for piece in pieces_of(item, grows=False)] == [(0, 50)]
    assert pieces_of(item, grows=True) == ()


def test_cells_are_those_of_the_grid():
    item = ScoreItem(Sequence.of([1] * 3, [2] * 100), Want(sampled=True, deterministic=True))
    edges = [(piece.start, piece.end) for piece in pieces_of(item, grows=False)]
    assert edges == [(0, 29), (29, 30), (30, 61), (61, 62), (62, 93), (93, 94), (94, 100)]  # token r + 2 predicts row r
    assert CELL_TOKENS == 32


def test_what_a_grade_cost_is_read_off_the_rows_at_the_f16_floor_too():
    rows = common_pb2.Rows(count=2)
    rows.topk.grade, rows.topk.width = common_pb2.GRADE_F16, 1
    rows.topk.values = np.array([-65504.0, -1.0], "<f2").tobytes()
    assert grade_cost(rows).clipped_low == 1
