"""An item as pieces: smaller items whose rows are remembered each under its own key.

Outside deterministic mode an item is one piece. In it the rows of each cell of the grid are one: they have the same bits whatever
was asked beside them, so a task that grows, a closed log and a request through a door find what any of them has left behind.
A log has a segment for each append: neighbours of one kind are one segment here, since nothing that is scored tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from preceptor.types import ScoreItem, Segment, Sequence, Window
from preceptor_teacher.grid import CELL_TOKENS, complete_tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows start .. end - 1 of an item, row R included; `item` is the least that would have to be scored to get them."""

    start: int
    end: int
    item: ScoreItem


def pieces_of(item: ScoreItem, *, grows: bool) -> tuple[Piece, ...]:
    """The pieces of an item, in order; none where nothing of it is remembered. `grows`: tokens may still be added to it."""
    want = item.want
    if want.samples and not want.sample_seed:  # no seed: nobody asked for the same draws again
        return ()
    start, end = (want.window.start, want.window.end) if want.window else (0, item.sequence.row_count)
    prefix_tokens = item.sequence.targets[start:end]
    if want.next:
        prefix_tokens = np.append(prefix_tokens, len(item.sequence.ids))
    if not len(prefix_tokens) or prefix_tokens[0] == 0:
        return ()
    item = ScoreItem(merged(item.sequence), want)
    if not want.deterministic:
        return () if grows else (Piece(start, start + len(prefix_tokens), item),)
    if grows:
        prefix_tokens = prefix_tokens[prefix_tokens <= complete_tokens(len(item.sequence.ids))]
    return tuple(_cut(item, start, prefix_tokens, first, stop) for first, stop in _cells(prefix_tokens))


def _cells(prefix_tokens: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of rows that one cell predicts; the last row of a cell is a run of its own.

    Its target is the next cell's first token: a log that ends with the cell has this row later than the others.
    """
    if not len(prefix_tokens):
        return
    runs = 2 * (prefix_tokens // CELL_TOKENS) + (prefix_tokens % CELL_TOKENS > 0)
    edges = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), len(runs)]
    yield from pairwise(edges)


def _cut(item: ScoreItem, start: int, prefix_tokens: NDArray[np.int64], first: int, stop: int) -> Piece:
    """Rows first .. stop - 1 of those that are wanted, with the tokens up to the last one's target."""
    with_next = item.want.next and stop == len(prefix_tokens) and int(prefix_tokens[-1]) == len(item.sequence.ids)
    tokens = int(prefix_tokens[stop - 1]) + (not with_next)
    lists = item.want.candidates
    want = replace(
        item.want,
        window=Window(start + first, start + stop - with_next),
        next=with_next,
        candidates=None if lists is None else lists.rows_between(first, stop),
    )
    return Piece(start + first, start + stop, ScoreItem(first_tokens(item.sequence, tokens), want))


def merged(sequence: Sequence) -> Sequence:
    """The same tokens in as few segments as their kinds allow."""
    runs = [list(run) for _, run in groupby(sequence.segments, lambda segment: segment.kind)]
    return Sequence(tuple(Segment(run[0].kind, np.concatenate([one.ids for one in run])) for run in runs))


def first_tokens(sequence: Sequence, tokens: int) -> Sequence:
    """The sequence without what follows its first tokens."""
    segments: list[Segment] = []
    for segment in sequence.segments:
        if tokens <= 0:
            break
        segments.append(segment if len(segment.ids) <= tokens else Segment(segment.kind, segment.ids[:tokens]))
        tokens -= len(segment.ids)
    return Sequence(tuple(segments))
