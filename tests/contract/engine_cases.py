"""Sequences and wants that an engine contract test draws from, fitted to what the engine declares."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from preceptor.types import Capabilities, ModelInfo, RaggedIds, Sequence, TailOf, Want, Window
from preceptor_serving.engines.protocol import ScoreItem

MAX_TURN_TOKENS = 6


@st.composite
def sequences(draw: st.DrawFn, info: ModelInfo) -> Sequence:
    """Context first, then turns of either kind, some of them empty."""
    ids = st.integers(0, info.tokenizer_size - 1)
    context = draw(st.lists(ids, min_size=1, max_size=MAX_TURN_TOKENS))
    turns = st.tuples(st.sampled_from(["context", "response"]), st.lists(ids, max_size=MAX_TURN_TOKENS))
    return Sequence.of_turns([("context", context), *draw(st.lists(turns, min_size=1, max_size=4))])


@st.composite
def wants(draw: st.DrawFn, info: ModelInfo, sequence: Sequence) -> Want:
    """Any mix of what the engine serves, over all rows or a window."""
    can = info.capabilities
    rows = sequence.row_count
    start, end = sorted(draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    has_next = can.next and draw(st.booleans())
    window = None if has_next or draw(st.booleans()) else Window(start, end)
    count = (rows if window is None else len(window)) + has_next
    topk = draw(st.integers(0, min(8, can.max_topk)))
    lists = draw(_candidate_lists(info, count)) if can.max_candidates_per_row and draw(st.booleans()) else None
    want = Want(
        sampled=can.sampled and draw(st.booleans()),
        topk=topk,
        candidates=lists,
        entropy=can.entropy and draw(st.booleans()),
        samples=draw(st.integers(0, min(4, can.max_samples))),
        sample_seed=draw(st.integers(0, 2**64 - 1)),
        next=has_next,
        window=window,
        temperature=draw(st.sampled_from([1.0, 0.5, 2.0])),
    )
    return replace(want, tail=draw(st.sampled_from(_tails(want, can))))


@st.composite
def items(draw: st.DrawFn, info: ModelInfo) -> ScoreItem:
    sequence = draw(sequences(info))
    return ScoreItem(sequence, draw(wants(info, sequence)))


def _candidate_lists(info: ModelInfo, rows: int) -> st.SearchStrategy[RaggedIds]:
    most = min(5, info.capabilities.max_candidates_per_row)
    one = st.lists(st.integers(0, info.tokenizer_size - 1), max_size=most)
    return st.lists(one, min_size=rows, max_size=rows).map(RaggedIds.from_rows)


def _tails(want: Want, can: Capabilities) -> list[TailOf]:
    if not can.tail:
        return [TailOf.NONE]
    possible = [TailOf.NONE, TailOf.UNION]
    possible += [TailOf.TOPK] if want.topk else []
    return possible + ([TailOf.CANDIDATES] if want.candidates is not None else [])
