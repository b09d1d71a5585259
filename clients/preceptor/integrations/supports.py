"""A divergence between student and teacher on ids that the student chose, and on the mass outside of them.

Shapes: N rows, V ids of the student's head, K of them chosen. The teacher is asked about those K in each row: its values and its
tail are columns of an [N, K + 1] table, so nothing as wide as the vocabulary is ever sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preceptor.client import ScoreItem, TeacherClient
from preceptor.client.teacher import Result
from preceptor.errors import InvalidArgument, PreceptorError
from preceptor.extras import require
from preceptor.types import RaggedIds, TailOf, Want
from preceptor.types import Sequence as Tokens

torch: Any = require("torch", extra="trl")
Tensor = Any  # torch's: this package has no torch, its callers have


@dataclass(frozen=True, slots=True)
class Support:
    """The chosen ids [N, K], and the student's log-masses [N, K + 1] on them and outside."""

    ids_NK: Tensor
    student_NM: Tensor


def student_support(logits_NV: Tensor, width: int, usable_ids: int) -> Support:
    """The student's `width` most likely ids below `usable_ids`, which is how many the tokenizer has; the rest is the tail.

    The tail is the log-sum-exp of the remaining logits: 1 minus the sum of the others would lose it in rounding.
    """
    logprobs_NV = logits_NV.float().log_softmax(-1)
    ids_NK = logprobs_NV.detach()[:, :usable_ids].topk(min(width, usable_ids)).indices
    chosen_NV = torch.zeros_like(logprobs_NV, dtype=torch.bool).scatter_(1, ids_NK, value=True)
    columns = [logprobs_NV.gather(1, ids_NK)]
    if ids_NK.shape[1] < logits_NV.shape[1]:
        columns.append(logprobs_NV.masked_fill(chosen_NV, -math.inf).logsumexp(-1, keepdim=True))
    return Support(ids_NK, torch.cat(columns, 1))


def teacher_masses(
    client: TeacherClient, teacher: str, sequences: Sequence[Tokens], support: Support, temperature: float = 1.0
) -> Tensor:
    """The teacher's log-masses in the support's shape. Its rows are the response tokens of all sequences, in order."""
    ids, at = support.ids_NK.cpu().numpy(), 0
    items: list[ScoreItem] = []
    for sequence in sequences:
        lists = RaggedIds.from_rows(ids[at : at + sequence.row_count])
        items.append(ScoreItem(sequence, Want(candidates=lists, tail=TailOf.CANDIDATES, temperature=temperature)))
        at += sequence.row_count
    if at != len(ids):
        raise InvalidArgument("the support has one row for each response token", field="support", value=len(ids), limit=at)
    tables = [_table(result, support) for result in client.score(teacher, items)]
    return torch.cat(tables).to(support.student_NM)


def _table(result: Result, support: Support) -> Tensor:
    if isinstance(result, PreceptorError):
        raise result
    rows = result.rows
    assert rows.candidates is not None and rows.tail is not None, "both were asked for"  # noqa: PT018
    values = torch.from_numpy(rows.candidates.logprobs.copy()).view(rows.count, -1)
    tail = torch.from_numpy(rows.tail.copy())[:, None]
    return torch.cat([values, tail], 1)[:, : support.student_NM.shape[1]]


def divergence(student_NM: Tensor, teacher_NM: Tensor, beta: float) -> Tensor:
    """TRL's generalised Jensen-Shannon divergence of each row: 0 forward KL, 1 reverse KL, their mixture between."""
    if beta == 0:
        return _relative(teacher_NM, student_NM)
    if beta == 1:
        return _relative(student_NM, teacher_NM)
    mixture_NM = torch.logaddexp(student_NM + math.log1p(-beta), teacher_NM + math.log(beta))
    return beta * _relative(teacher_NM, mixture_NM) + (1 - beta) * _relative(student_NM, mixture_NM)


def _relative(p_NM: Tensor, q_NM: Tensor) -> Tensor:
    """KL(p || q). Where p has no mass its part is zero, whatever q is, and so is its gradient."""
    held = p_NM > -math.inf
    p, q = p_NM.masked_fill(~held, 0.0), q_NM.masked_fill(~held, 0.0)
    return torch.where(held, p.exp() * (p - q), 0.0).sum(-1)
