"""The loss of one term on one micro-batch: what it reads of the student, its weights and advantage, and their product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.batch import Item
from preceptor_student.collate import Pair, asked_of, term_rows
from preceptor_student.objectives import ADVANTAGES, OBJECTIVES, TOKEN_WEIGHTS, TRANSFORMS, TermRows
from preceptor_student.objectives.rows import Support
from preceptor_student.objectives.student import StudentRows
from preceptor_student.reading import Lookup
from preceptor_student.terms import BoundTerm, PreparedTerm
from preceptor_student.wholes import Wholes, no_whole


@dataclass(frozen=True, slots=True)
class TermBatch:
    """One term in one micro-batch. `own` holds lookup and support of those `row_uses` that read another support than the term."""

    index: int
    term: PreparedTerm
    pairs: Sequence[Pair]
    lookup: Lookup
    support: Support | None
    own: dict[int, tuple[Lookup, Support]]
    weights_n: NDArray[np.float64]

    @property
    def lookups(self) -> list[Lookup]:
        """The term's own, then those of `own` in order."""
        return [self.lookup, *(lookup for lookup, _ in self.own.values())]


def term_batch(
    index: int,
    term: PreparedTerm,
    batch: Sequence[Item],
    start: int,
    used: Sequence[NDArray[np.int64]],
    kind: Tensor,
    wholes: Wholes = no_whole,
) -> TermBatch | None:
    """The rows of a term among the `used` ones of a micro-batch that starts at item `start`; None where it has none here."""
    firsts = np.cumsum([0, *map(len, used)])
    found = [
        (first + np.searchsorted(rows, one.rows), item, one)
        for first, item, rows, one in zip(firsts, batch, used, term.items[start : start + len(batch)], strict=False)
        if one is not None and len(one.rows)
    ]
    if not found:
        return None
    pairs = [(item, one) for _, item, one in found]
    taken = np.concatenate([places for places, _, _ in found])
    asked, support = asked_of(pairs, kind)
    own: dict[int, tuple[Lookup, Support]] = {}
    for use in own_supports(term.term):
        use_asked, use_support = asked_of(pairs, kind, use)
        assert use_support is not None, "only uses with a support are listed"
        own[use] = Lookup(taken, use_asked), use_support
    lookup = Lookup(taken, asked, wholes(term.term, pairs, kind))
    return TermBatch(index, term, pairs, lookup, support, own, _weights(term, pairs))


def own_supports(term: BoundTerm) -> list[int]:
    """Places among the `row_uses` of those that read a support which is not the term's."""
    theirs = (term.spec.teacher, term.signal)
    uses = enumerate(term.row_uses)
    return [place for place, use in uses if use.signal and use.signal.name == "support" and (use.teacher, use.signal) != theirs]


def term_loss(batch: TermBatch, student: StudentRows, own: Sequence[StudentRows]) -> tuple[Tensor, TermRows]:
    """The term's part of the step's loss, and the rows that it saw; `own` are the students of `batch.own`."""
    term = batch.term.term
    rows = term_rows(student, batch.lookup.asked, batch.support, batch.pairs)
    views = [rows for _ in term.row_uses]
    students = dict(zip(batch.own, own, strict=True))
    for place in range(len(views)):
        lookup, support = batch.own.get(place, (batch.lookup, batch.support))
        views[place] = term_rows(students.get(place, student), lookup.asked, support, batch.pairs, place)
    advantages = len(term.advantage)
    rows = replace(rows, advantage_n=advantage_of(term, views[:advantages]))
    compared = student.compared
    loss_n = OBJECTIVES[term.objective.name].loss(rows, term.objective.params) if compared is None else compared.nats_n
    loss_n = loss_n * torch.from_numpy(batch.weights_n).to(loss_n)
    if (weight_n := token_weights_of(term, views[advantages:])) is not None:
        loss_n = loss_n * weight_n
    return term.weight * loss_n.sum() / batch.term.divisor, rows


@torch.no_grad()
def advantage_of(term: BoundTerm, views: Sequence[TermRows]) -> Tensor | None:
    """The detached advantage of each row: what starts one is added, what transforms one works on the sum so far."""
    total: Tensor | None = None
    for use, rows in zip(term.advantage, views, strict=True):
        if use.op.name in ADVANTAGES:
            new = ADVANTAGES[use.op.name].per_row(rows, use.op.params)
            total = new if total is None else total + new
        else:
            assert total is not None, "the linter refuses a transform without an advantage before it"
            total = TRANSFORMS[use.op.name].apply(rows, total, use.op.params)
    return total


@torch.no_grad()
def token_weights_of(term: BoundTerm, views: Sequence[TermRows]) -> Tensor | None:
    """The weight of each row; None where every row weighs the same."""
    weight_n: Tensor | None = None
    for use, rows in zip(term.token_weights, views, strict=True):
        if apply := TOKEN_WEIGHTS[use.op.name].apply:
            before_n = torch.ones_like(rows.student_sampled_n()) if weight_n is None else weight_n
            weight_n = apply(rows, before_n, use.op.params)
    return weight_n


def _weights(term: PreparedTerm, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """What each row's loss is multiplied by before any look at the student."""
    parts: list[NDArray[np.float64]] = []
    for _, one in pairs:
        weight = one.weight / len(one.loss_rows) if term.term.spec.normaliser == "sequence_means" else one.weight
        parts.append(np.where(True if one.counts is None else one.counts, np.full(len(one.rows), weight), 0.0))
    return np.concatenate(parts)
