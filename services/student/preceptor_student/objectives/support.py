"""The union of everything that the teacher returned for a row, each token once, and the tail outside of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.objectives.signals import F32, ItemScores, Mask, Signal, SupportColumns

Columns = tuple[NDArray[np.int64], F32, Mask]  # ids, log-probabilities, which entries are there


def read(scores: ItemScores, params: SupportParams) -> Signal:
    """A row is valid when every entry of its support, and its tail where wanted, has a number; -inf is one."""
    rows = len(scores.ok_r)
    parts = [_sampled(scores)] if params.sampled else []
    if params.teacher_topk:
        parts.append(_topk(scores, params.teacher_topk))
    if params.student_topk:
        parts.append(_listed(scores))
    ids_rs, teacher_rs, asked_rs = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
    top_rs = np.zeros(ids_rs.shape, bool)
    first = int(params.sampled)
    top_rs[:, first : first + params.teacher_topk] = True
    valid_r = scores.ok_r & ~(np.isnan(teacher_rs) & asked_rs).any(axis=1)
    tail_r = None
    if params.tail:
        tail_r = scores.tail_r if scores.tail_r is not None else np.full(rows, np.nan, np.float32)
        valid_r &= ~np.isnan(tail_r)
    there_rs = asked_rs & _first_of_its_kind(ids_rs, asked_rs)
    top_rs = _same_token(ids_rs, asked_rs, top_rs) & there_rs
    columns = SupportColumns(np.where(there_rs, ids_rs, 0), there_rs, np.where(there_rs, teacher_rs, 0), top_rs, tail_r)
    return Signal(valid_r, scores.sampled_r, columns)


def _sampled(scores: ItemScores) -> Columns:
    values = scores.sampled_r if scores.sampled_r is not None else np.full(len(scores.ok_r), np.nan, np.float32)
    return scores.targets_r[:, None], values[:, None], np.ones((len(scores.ok_r), 1), bool)


def _topk(scores: ItemScores, width: int) -> Columns:
    shape = (len(scores.ok_r), width)
    if scores.topk_ids_rk is None or scores.topk_rk is None:
        return np.zeros(shape, np.int64), np.full(shape, np.nan, np.float32), np.ones(shape, bool)
    if scores.topk_rk.shape != shape:
        got = scores.topk_rk.shape[1]
        raise InvalidArgument(
            f"the teacher's top-k is {got} wide, the recipe asks for {width}", field="scores.rows.topk", value=got, limit=width
        )
    return scores.topk_ids_rk, scores.topk_rk, np.ones(shape, bool)


def _listed(scores: ItemScores) -> Columns:
    if scores.listed_ids_rc is None or scores.listed_rc is None or scores.listed_there_rc is None:
        shape = (len(scores.ok_r), 1)
        return np.zeros(shape, np.int64), np.full(shape, np.nan, np.float32), np.ones(shape, bool)
    return scores.listed_ids_rc, scores.listed_rc, scores.listed_there_rc


def _first_of_its_kind(ids_rs: NDArray[np.int64], asked_rs: Mask) -> Mask:
    """Marks the first entry of each token of a row: the drawn token's own column is never rounded, so it comes first."""
    keys = np.where(asked_rs, ids_rs, -1)
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, 1)
    fresh = np.ones(ids_rs.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(fresh)
    np.put_along_axis(first, order, fresh, 1)
    return first


def _same_token(ids_rs: NDArray[np.int64], asked_rs: Mask, marked_rs: Mask) -> Mask:
    """The marks, shared by all entries of one token in a row."""
    keys = np.where(asked_rs, ids_rs, -1)
    shared = marked_rs & asked_rs
    for column in np.flatnonzero(marked_rs.any(axis=0)):
        shared |= (keys == keys[:, column, None]) & asked_rs & asked_rs[:, column, None]
    return shared
