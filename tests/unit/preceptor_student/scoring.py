"""A teacher made of a table: the columns that a real one would return for rows whose full log-probabilities are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.spec import NoParams, Params
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.batch import Item
from preceptor_student.collate import asked_of, term_rows
from preceptor_student.objectives import OBJECTIVES, TermRows, sampled, support
from preceptor_student.objectives.signals import ItemScores
from preceptor_student.objectives.student import read_rows
from preceptor_student.terms import TermItem


def table_scores(
    teacher_rv: np.ndarray, targets_r: np.ndarray, topk: int = 0, listed_rc: np.ndarray | None = None, *, sampled: bool = True
) -> ItemScores:
    """Everything at once: sampled, top-k, candidates, and the tail outside the union of all that is wanted."""
    order = np.argsort(-teacher_rv, axis=1, kind="stable")[:, :topk]
    rows = np.arange(len(targets_r))
    outside = np.ones(teacher_rv.shape, bool)
    np.put_along_axis(outside, order, False, 1)
    if sampled:
        outside[rows, targets_r] = False
    if listed_rc is not None:
        np.put_along_axis(outside, listed_rc, False, 1)
    with np.errstate(divide="ignore"):
        tail_r = np.log(np.where(outside, np.exp(teacher_rv), 0).sum(1))
    return ItemScores(
        ok_r=np.ones(len(rows), bool),
        targets_r=targets_r,
        sampled_r=teacher_rv[rows, targets_r] if sampled else None,
        topk_ids_rk=order,
        topk_rk=np.take_along_axis(teacher_rv, order, 1),
        listed_ids_rc=listed_rc,
        listed_rc=None if listed_rc is None else np.take_along_axis(teacher_rv, listed_rc, 1),
        listed_there_rc=None if listed_rc is None else np.ones(listed_rc.shape, bool),
        tail_r=tail_r,
    )


def support_rows(student_rv: Tensor, scores: ItemScores, *, tail: bool = True) -> TermRows:
    """The flat rows of one sequence under a support as wide as the scores; every row is taken to be valid."""
    params = SupportParams(
        teacher_topk=0 if scores.topk_rk is None else scores.topk_rk.shape[1],
        student_topk=0 if scores.listed_rc is None else scores.listed_rc.shape[1],
        tail=tail,
    )
    return rows_of(student_rv, scores, params)


def rows_of(student_rv: Tensor, scores: ItemScores, params: SupportParams) -> TermRows:
    """The flat rows of one sequence on a support; every row is taken to be valid."""
    return _rows(student_rv, scores, support.read(scores, params))


def sampled_rows(student_rv: Tensor, scores: ItemScores) -> TermRows:
    """The flat rows of one sequence with the sampled signal."""
    return _rows(student_rv, scores, sampled.read(scores, NoParams()))


def _rows(student_rv: Tensor, scores: ItemScores, signal) -> TermRows:
    count = len(scores.targets_r)
    item = Item(np.append(0, scores.targets_r), np.arange(1, count + 1), "s", "", 1.0, False, {})
    pairs = [(item, TermItem(np.arange(count), signal))]
    asked, compared = asked_of(pairs, student_rv)
    return term_rows(read_rows(student_rv, asked), asked, compared, pairs)


def loss_of(name: str, rows: TermRows, params: Params | None = None) -> Tensor:
    return OBJECTIVES[name].loss(rows, params or OPS[name].params())


def with_advantage(rows: TermRows, advantage_n: Tensor) -> TermRows:
    return replace(rows, advantage_n=advantage_n)


def log_softmax(logits: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(logits, dtype=torch.float64).log_softmax(-1)
