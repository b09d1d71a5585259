"""What the terms of an objective make of one step's items before any forward pass.

Everything that depends on the whole step is settled here: which rollouts and rows count, what each term's sum is divided by, and
what compares sequences. Micro-batches therefore change nothing but the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument
from preceptor_student import whole
from preceptor_student.batch import Item
from preceptor_student.binding import BoundOp, BoundTerm, bind
from preceptor_student.objectives import ADVANTAGES, OBJECTIVES, TOKEN_WEIGHTS, TRANSFORMS
from preceptor_student.objectives.kinds import Advantage, Facts, TokenWeight, Transform
from preceptor_student.objectives.samples import Pair
from preceptor_student.objectives.signals import Mask, Signal
from preceptor_student.readings import signal_of


def _no_rows() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class TermItem:
    """What one term makes of one item: the rows that it needs, in order, and the teacher's columns.

    `uses` and `values` belong to the term's `row_uses`: the signal that each reads, and what an advantage that looks at the whole
    step gives each row. `counts` marks the rows of the loss among `rows`; None: all of them.
    """

    rows: NDArray[np.int64]
    signal: Signal
    uses: tuple[Signal, ...] = ()
    values: tuple[NDArray[np.float64], ...] = ()
    weight: float = 1.0
    counts: Mask | None = None
    skipped: NDArray[np.int64] = field(default_factory=_no_rows)  # rows that it wanted and cannot use
    infinite_rows: int = 0

    @property
    def loss_rows(self) -> NDArray[np.int64]:
        return self.rows if self.counts is None else self.rows[self.counts]


@dataclass(frozen=True, slots=True)
class PreparedTerm:
    """One term over all items of the step; an item that it does not read is None."""

    term: BoundTerm
    items: tuple[TermItem | None, ...]
    divisor: int
    pairs: tuple[Pair, ...] = ()  # places of items: chosen, rejected

    @property
    def valid_rows(self) -> int:
        return sum(len(one.loss_rows) for one in self.items if one)

    @property
    def skipped_rows(self) -> int:
        return sum(len(one.skipped) for one in self.items if one)

    @property
    def infinite_rows(self) -> int:
        """Among the skipped: valid scores on which this objective, or an op of its slots, is infinite."""
        return sum(one.infinite_rows for one in self.items if one)


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """All terms over all items. A row counts as valid where some term learns from it."""

    terms: tuple[PreparedTerm, ...]
    used_rows: tuple[NDArray[np.int64], ...]  # rows that some term needs
    valid_rows: int
    skipped_rows: int


def prepare(terms: Sequence[BoundTerm], items: Sequence[Item], head_rows: int, step: int) -> PreparedStep:
    """Valid rows, divisors and batch-wide advantages of one step."""
    read = {source for term in terms for source in term.sources}
    for item in items:
        if item.source not in read:
            known = " | ".join(sorted(read))
            raise InvalidArgument(f"no term reads {item.source!r}", field="items.source", value=item.source, limit=known)
    prepared = tuple(_prepare_term(term, items, head_rows, step) for term in terms)
    found = [[one for term in prepared if (one := term.items[place])] for place in range(len(items))]
    used = tuple(_union([one.rows for one in ones]) for ones in found)
    learned = [_union([one.loss_rows for one in ones]) for ones in found]
    wanted = [_union([rows for one in ones for rows in (one.loss_rows, one.skipped)]) for ones in found]
    valid_rows = sum(map(len, learned))
    return PreparedStep(prepared, used, valid_rows, sum(map(len, wanted)) - valid_rows)


# ---------------------------------------------------------------- one term


def _prepare_term(term: BoundTerm, items: Sequence[Item], head_rows: int, step: int) -> PreparedTerm:
    places = [place for place, item in enumerate(items) if item.source in term.sources]
    read = [items[place] for place in places]
    found = _term_items(term, read, head_rows, step)
    pairs: list[Pair] = []
    if term.prefers:
        found, pairs = _paired(term, read, found, step)
    with_rows = [one for one in found if one and len(one.loss_rows)]
    rows = sum(len(one.loss_rows) for one in with_rows)
    divisor = {"rows": rows, "pairs": len(pairs)}.get(term.spec.normaliser, len(with_rows))
    by_place = dict(zip(places, found, strict=True))
    everyone = tuple(by_place.get(place) for place in range(len(items)))
    return PreparedTerm(term, everyone, divisor, tuple((places[high], places[low]) for high, low in pairs))


def _term_items(term: BoundTerm, items: Sequence[Item], head_rows: int, step: int) -> list[TermItem | None]:
    taken = whole.taken(term, items, step)
    weights = whole.weights(term, items, taken, step)
    values = [whole.row_values(use, items) for use in term.row_uses]
    return [
        None if answer is False else _term_item(term, item, head_rows, nan if answer is None else weight, tuple(own))
        for item, answer, weight, *own in zip(items, taken, weights, *values, strict=True)
    ]


def _term_item(term: BoundTerm, item: Item, head_rows: int, weight: float, values: tuple[NDArray[np.float64], ...]) -> TermItem:
    signal = signal_of(term.spec.teacher, term.signal, item)
    uses = tuple(signal_of(use.teacher, use.signal, item) for use in term.row_uses)
    if not isfinite(weight):
        return TermItem(_no_rows(), signal, uses, values, skipped=np.arange(item.row_count))
    valid_r, usable_r = _usable(term, item, head_rows, signal, uses)
    complete_r, chosen_r = usable_r, np.ones_like(usable_r)
    for use in term.advantage:
        look = TRANSFORMS[use.op.name].complete if use.op.name in TRANSFORMS else None
        complete_r = complete_r if look is None else look(complete_r, use.op.params)
    for use, one in zip(term.row_uses, uses, strict=True):
        chosen_r = chosen_r & _chosen(use.op, item, one)
    counts_r = complete_r & chosen_r
    needed_r = usable_r if _looks_ahead(term) and counts_r.any() else counts_r
    skipped = np.flatnonzero(chosen_r & ~counts_r)
    infinite = int((chosen_r & valid_r & ~usable_r).sum())
    rows = np.flatnonzero(needed_r)
    return TermItem(rows, signal, uses, values, weight, counts_r[rows] if _looks_ahead(term) else None, skipped, infinite)


def _usable(term: BoundTerm, item: Item, head_rows: int, signal: Signal, uses: Sequence[Signal]) -> tuple[Mask, Mask]:
    """(rows on which every number is there, those of them on which every op is finite too)."""
    valid_r = signal.valid_r.copy()
    for use, one in zip(term.row_uses, uses, strict=True):
        valid_r &= one.valid_r | (_choice(use.op) is not None)
    if not valid_r.any():
        return (
            valid_r,
            valid_r,
        )  # of an item of which nothing was said there are no columns to ask an op about
    if term.prefers:
        infinite_r = np.isneginf(signal.sampled_r) if signal.sampled_r is not None else np.zeros_like(valid_r)
        return valid_r, valid_r & ~infinite_r
    objective = OBJECTIVES[term.objective.name]
    valid_r &= objective.logged(Facts(signal, item.drawn, head_rows), term.objective.params)
    usable_r = valid_r & objective.usable(signal, head_rows)
    for use, one in zip(term.row_uses, uses, strict=True):
        usable_r &= _maths(use.op).usable(Facts(one, item.drawn, head_rows), use.op.params)
    return valid_r, usable_r


def _choice(op: BoundOp) -> Callable[[Signal, Any], Mask] | None:
    return TOKEN_WEIGHTS[op.name].choose if op.name in TOKEN_WEIGHTS else None


def _chosen(op: BoundOp, item: Item, signal: Signal) -> Mask:
    """The rows that a token weight leaves in."""
    weight = TOKEN_WEIGHTS.get(op.name, TokenWeight())
    if weight.select is not None:
        return weight.select(item.targets_r, op.params)
    return np.ones(item.row_count, bool) if weight.choose is None else weight.choose(signal, op.params)


def _maths(op: BoundOp) -> Advantage | Transform | TokenWeight:
    return ADVANTAGES.get(op.name) or TRANSFORMS.get(op.name) or TOKEN_WEIGHTS[op.name]


def _looks_ahead(term: BoundTerm) -> bool:
    return any(use.op.name in TRANSFORMS and TRANSFORMS[use.op.name].complete for use in term.advantage)


def _paired(
    term: BoundTerm, items: Sequence[Item], found: Sequence[TermItem | None], step: int
) -> tuple[list[TermItem | None], list[Pair]]:
    """Pairs of whole responses: one of which some row is missing has no sum, so it is skipped; one without a pair has no rows."""
    whole_ones = [place for place, one in enumerate(found) if one and len(one.rows) == items[place].row_count]
    among = whole.pairs_of(term, [items[place] for place in whole_ones], step)
    pairs = [(whole_ones[high], whole_ones[low]) for high, low in among]
    paired = {place for pair in pairs for place in pair}
    return [_kept(one, place, items[place], whole_ones, paired) for place, one in enumerate(found)], pairs


def _kept(one: TermItem | None, place: int, item: Item, whole_ones: Sequence[int], paired: set[int]) -> TermItem | None:
    if one is None or place in paired:
        return one
    return replace(one, rows=_no_rows(), skipped=_no_rows() if place in whole_ones else np.arange(item.row_count))


# ---------------------------------------------------------------- over terms


def _union(lists: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(lists)) if lists else _no_rows()


__all__ = ["BoundTerm", "PreparedStep", "PreparedTerm", "TermItem", "bind", "prepare"]
