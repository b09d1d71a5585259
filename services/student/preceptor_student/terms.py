"""The terms of an objective, bound to their maths, and what they make of one step's items before any forward pass.

Everything that depends on the whole step is settled here: which rows are valid, what each term's sum is divided by, and the
advantages that compare sequences. Micro-batches therefore change nothing but the memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument
from preceptor.recipes.objective import ObjectiveSpec, TermSpec
from preceptor.recipes.ops import Kind, Params
from preceptor.recipes.resolve import ResolvedOp, resolve_op
from preceptor.recipes.schedules import at_step, params_at_step
from preceptor.recipes.schema import OpUse
from preceptor_student.batch import Item
from preceptor_student.objectives import ADVANTAGES, OBJECTIVES, SIGNALS
from preceptor_student.objectives.signals import ItemScores, Signal


@dataclass(frozen=True, slots=True)
class BoundOp:
    """An op's name, and its parameters at this step: no ramps."""

    name: str
    params: Params


@dataclass(frozen=True, slots=True)
class BoundTerm:
    """One term at one step."""

    spec: TermSpec
    weight: float
    objective: BoundOp
    signal: BoundOp | None
    advantage: BoundOp | None


@dataclass(frozen=True, slots=True)
class TermItem:
    """What one term makes of one item: its valid rows, in order, and the teacher's columns."""

    rows: NDArray[np.int64]
    signal: Signal
    sequence_value: float = math.nan


@dataclass(frozen=True, slots=True)
class PreparedTerm:
    """One term over all items of the step; an item that it does not read is None."""

    term: BoundTerm
    items: tuple[TermItem | None, ...]
    divisor: int
    skipped_rows: int
    infinite_rows: int  # among the skipped: valid scores on which this objective is infinite

    @property
    def valid_rows(self) -> int:
        return sum(len(one.rows) for one in self.items if one)


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """All terms over all items. A row counts as valid where some term learns from it."""

    terms: tuple[PreparedTerm, ...]
    used_rows: tuple[NDArray[np.int64], ...]
    skipped_rows: int

    @property
    def valid_rows(self) -> int:
        return sum(map(len, self.used_rows))


def bind(spec: ObjectiveSpec, step: int) -> tuple[BoundTerm, ...]:
    """The terms with every ramp at its value of this step."""
    return tuple(_bind_term(term, index, step) for index, term in enumerate(spec.terms))


def prepare(terms: Sequence[BoundTerm], items: Sequence[Item], head_rows: int) -> PreparedStep:
    """Valid rows, divisors and batch-wide advantages of one step."""
    read = {term.spec.on for term in terms}
    for item in items:
        if item.source not in read:
            known = " | ".join(sorted(read))
            raise InvalidArgument(f"no term reads {item.source!r}", field="items.source", value=item.source, limit=known)
    prepared = tuple(_prepare_term(term, items, head_rows) for term in terms)
    used = tuple(_union([one.items[i] for one in prepared]) for i in range(len(items)))
    skipped = sum(item.row_count - len(rows) for item, rows in zip(items, used, strict=True))
    return PreparedStep(prepared, used, skipped)


# ---------------------------------------------------------------- binding


def _bind_term(term: TermSpec, index: int, step: int) -> BoundTerm:
    where = f"objective.json.terms[{index}]"
    objective = _bind_op(resolve_op(term.objective, Kind.OBJECTIVE, f"{where}.objective"), step)
    return BoundTerm(
        term,
        at_step(term.weight, step),
        objective,
        _bind_slot(term.signal, Kind.SIGNAL, where, step),
        _bind_slot(term.advantage, Kind.ADVANTAGE, where, step),
    )


def _bind_slot(use: OpUse | None, kind: Kind, where: str, step: int) -> BoundOp | None:
    return None if use is None else _bind_op(resolve_op(use, kind, f"{where}.{kind}"), step)


def _bind_op(op: ResolvedOp, step: int) -> BoundOp:
    return BoundOp(op.spec.name, params_at_step(op.params, step))


# ---------------------------------------------------------------- rows


def _prepare_term(term: BoundTerm, items: Sequence[Item], head_rows: int) -> PreparedTerm:
    found = [_term_item(term, item, head_rows) if item.source == term.spec.on else None for item in items]
    read = [(item, one) for item, one in zip(items, found, strict=True) if one]
    skipped = sum(item.row_count - len(one.rows) for item, one in read)
    infinite = sum(int(one.signal.valid_r.sum()) - len(one.rows) for _, one in read)
    with_rows = [one for _, one in read if len(one.rows)]
    divisor = sum(len(one.rows) for one in with_rows) if term.spec.normaliser == "rows" else len(with_rows)
    return PreparedTerm(term, _over_batch(term, items, found), divisor, skipped, infinite)


def _term_item(term: BoundTerm, item: Item, head_rows: int) -> TermItem:
    signal = _signal(term, item)
    usable_r = signal.valid_r & OBJECTIVES[term.objective.name].usable(signal, head_rows)
    if term.advantage:
        usable_r &= ADVANTAGES[term.advantage.name].usable(signal)
    return TermItem(np.flatnonzero(usable_r), signal)


def _signal(term: BoundTerm, item: Item) -> Signal:
    if term.signal is None or term.spec.teacher is None:
        return Signal(np.ones(item.row_count, bool))
    scores = item.scores.get(term.spec.teacher) or ItemScores(np.zeros(item.row_count, bool), item.targets_r)
    return SIGNALS[term.signal.name](scores, term.signal.params)


def _over_batch(term: BoundTerm, items: Sequence[Item], found: Sequence[TermItem | None]) -> tuple[TermItem | None, ...]:
    """Gives each sequence its number, where the term's advantage compares sequences."""
    compare = ADVANTAGES[term.advantage.name].over_batch if term.advantage else None
    if compare is None or term.advantage is None:
        return tuple(found)
    graded = [i for i, one in enumerate(found) if one and one.signal.reward is not None]
    rewards = [one.signal.reward for i in graded if (one := found[i]) and one.signal.reward is not None]
    values = dict(zip(graded, compare(rewards, [_group(items[i]) for i in graded], term.advantage.params), strict=True))
    return tuple(replace(one, sequence_value=values.get(i, math.nan)) if one else None for i, one in enumerate(found))


def _group(item: Item) -> str:
    if not item.group:
        raise InvalidArgument("an advantage compares groups, and this item names none", field="items.group", value="nothing")
    return item.group


def _union(found: Sequence[TermItem | None]) -> NDArray[np.int64]:
    lists = [one.rows for one in found if one]
    return np.unique(np.concatenate(lists)) if lists else np.zeros(0, np.int64)
