"""The tokens of a row that sides are compared on, each once, out of what the teacher returned; and the tail outside of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.objectives.signals import F32, ItemScores, Mask, Signal, SupportColumns


def read(scores: ItemScores, params: SupportParams) -> Signal:
    """A row is valid when it has members, and every number that was asked for; -inf is one."""
    found = _returned(scores, params)
    valid_r = scores.ok_r & ~(np.isnan(found.values_re) & found.asked_re).any(axis=1)
    fresh_re = found.asked_re & _first_of_its_kind(found.ids_re, found.asked_re)
    there_re = fresh_re & _members(found, params)
    tail_r = None
    if params.tail:
        tail_r = scores.tail_r if scores.tail_r is not None else np.full(len(valid_r), np.nan, np.float32)
        valid_r &= ~np.isnan(tail_r)
        tail_r = _widened(tail_r, np.where(fresh_re & ~there_re, found.values_re, -np.inf))
    columns = SupportColumns(
        np.where(fresh_re, found.ids_re, 0),
        there_re,
        np.where(there_re, found.values_re, 0),
        found.of("topk") & fresh_re,
        tail_r,
        params.renormalise,
        params.sampled == "apart",
    )
    return Signal(valid_r & _comparable(columns), scores.sampled_r, columns)


@dataclass(frozen=True, slots=True)
class _Returned:
    """Every entry of a reply; e counts the entries of a row. `lists` says which columns came from where."""

    ids_re: NDArray[np.int64]
    values_re: F32
    asked_re: Mask
    lists: dict[str, range]

    def of(self, name: str) -> Mask:
        """Entries whose token stands in this list."""
        found_re = np.zeros_like(self.asked_re)
        for column in self.lists.get(name, ()):
            found_re |= (self.ids_re == self.ids_re[:, column, None]) & self.asked_re[:, column, None]
        return found_re & self.asked_re


@dataclass(frozen=True, slots=True)
class _Columns:
    """One list of a reply: `there_rc` says which of its entries were asked for."""

    ids_rc: NDArray[np.int64]
    values_rc: F32
    there_rc: Mask


def _returned(scores: ItemScores, params: SupportParams) -> _Returned:
    parts: dict[str, _Columns] = {"sampled": _sampled(scores)} if params.sampled else {}
    if params.teacher_topk:
        parts["topk"] = _topk(scores, params.teacher_topk)
    if params.student_topk:
        parts["listed"] = _listed(scores)
    ends = pairwise(accumulate((part.ids_rc.shape[1] for part in parts.values()), initial=0))
    return _Returned(
        np.concatenate([part.ids_rc for part in parts.values()], axis=1),
        np.concatenate([part.values_rc for part in parts.values()], axis=1),
        np.concatenate([part.there_rc for part in parts.values()], axis=1),
        {name: range(start, end) for name, (start, end) in zip(parts, ends, strict=True)},
    )


def _members(found: _Returned, params: SupportParams) -> Mask:
    """Entries whose token belongs to the support."""
    if params.combine == "intersection":
        chosen_re = found.of("topk") & found.of("listed")
    else:
        chosen_re = found.of("topk") | found.of("listed")
    return chosen_re | found.of("sampled") if params.sampled is True else chosen_re


def _widened(tail_r: F32, dropped_re: F32) -> F32:
    """The teacher's tail is what it returned nothing of; tokens that it returned and that are no members belong to it as well."""
    with np.errstate(invalid="ignore"):  # a missing number stays one
        return np.logaddexp(tail_r, np.logaddexp.reduce(dropped_re, axis=1)).astype(tail_r.dtype)


def _comparable(columns: SupportColumns) -> Mask:
    """Rows with something to compare: a member, and for a ratio to their mass one that the teacher finds possible."""
    members_rs = columns.there_rs & np.isfinite(columns.teacher_rs) if columns.renormalise else columns.there_rs
    return np.asarray(members_rs.any(axis=1))


def _sampled(scores: ItemScores) -> _Columns:
    return _missing(scores) if scores.sampled_r is None else _all_there(scores.targets_r[:, None], scores.sampled_r[:, None])


def _topk(scores: ItemScores, width: int) -> _Columns:
    if scores.topk_rk is None:
        return _missing(scores)
    got = scores.topk_rk.shape[1]
    if got != width:
        raise InvalidArgument(
            f"the teacher's top-k is {got} wide, the recipe asks for {width}", field="scores.rows.topk", value=got, limit=width
        )
    assert scores.topk_ids_rk is not None, "numbers come with their tokens"
    return _all_there(scores.topk_ids_rk, scores.topk_rk)


def _listed(scores: ItemScores) -> _Columns:
    if scores.listed_rc is None:
        return _missing(scores)
    assert scores.listed_ids_rc is not None, "numbers come with their tokens"
    assert scores.listed_there_rc is not None, "and with which of them are there"
    return _Columns(scores.listed_ids_rc, scores.listed_rc, scores.listed_there_rc)


def _all_there(ids_rc: NDArray[np.int64], values_rc: F32) -> _Columns:
    return _Columns(ids_rc, values_rc, np.full(ids_rc.shape, True))


def _missing(scores: ItemScores) -> _Columns:
    """A number that was asked for and is not there: no row is valid."""
    ids_rc = scores.targets_r[:, None]
    return _all_there(ids_rc, np.full(ids_rc.shape, np.nan, np.float32))


def _first_of_its_kind(ids_rs: NDArray[np.int64], asked_rs: Mask) -> Mask:
    """Marks the first entry of each token of a row: the drawn token's own column is never rounded, so it comes first."""
    keys = np.where(asked_rs, ids_rs, ~ids_rs)  # below zero: no token that was asked for
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, 1)
    fresh = np.ones(ids_rs.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(fresh)
    np.put_along_axis(first, order, fresh, 1)
    return first
