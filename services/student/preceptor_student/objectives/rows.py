"""What the maths of an op works on: response rows laid out flat, whichever sequences they come from.

Shapes: n rows, v rows of the head, s entries of the support, b buckets (support and tail). Only rows with a valid score get
here, so nothing has to be masked against NaN. Supports of several sequences differ in width: `present_ns` says which entries are
there, and the others hold zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Support:
    """A teacher's log-probabilities on a few different tokens of each row."""

    ids_ns: Tensor
    present_ns: Tensor
    teacher_ns: Tensor
    teacher_tail_n: Tensor | None  # log-mass of all other tokens; None: the recipe leaves the tail out
    top_ns: Tensor  # entries that are among the teacher's own most likely ones


@dataclass(frozen=True, slots=True)
class TermRows:
    """The rows of one term: the student's log-probabilities over its whole head, and what the teacher said."""

    student_nv: Tensor  # carries the gradient
    targets_n: Tensor
    teacher_sampled_n: Tensor | None = None
    support: Support | None = None
    sequence_n: Tensor | None = None  # a number for each row's whole sequence
    advantage_n: Tensor | None = None  # detached

    def student_sampled_n(self) -> Tensor:
        """The student's log-probability of each row's token."""
        return self.student_nv.gather(1, self.targets_n[:, None])[:, 0]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Both sides on the same partition: an entry of its own for each token of the support, then one for all the others.

    Where `there_nb` is false both sides hold zero, and nothing may come of it.
    """

    student_nb: Tensor
    teacher_nb: Tensor
    there_nb: Tensor

    def total(self, summand_nb: Tensor) -> Tensor:
        """The sum of each row over the buckets that are there."""
        return summand_nb.where(self.there_nb, torch.zeros(())).sum(1)


def buckets(rows: TermRows) -> Buckets:
    """Student and teacher on the support and its tail. Nothing is renormalised: the buckets of a row with a tail sum to one."""
    support = _support_of(rows)
    student_ns = rows.student_nv.gather(1, support.ids_ns).where(support.present_ns, torch.zeros(()))
    if support.teacher_tail_n is None:
        return Buckets(student_ns, support.teacher_ns, support.present_ns)
    tail_n, open_n = student_tail(rows.student_nv, support)
    teacher_tail_n = support.teacher_tail_n.where(open_n, torch.zeros(()))
    return Buckets(
        torch.cat([student_ns, tail_n[:, None]], 1),
        torch.cat([support.teacher_ns, teacher_tail_n[:, None]], 1),
        torch.cat([support.present_ns, open_n[:, None]], 1),
    )


def student_tail(student_nv: Tensor, support: Support) -> tuple[Tensor, Tensor]:
    """(log-mass outside the support, whether there is an outside); a row without one holds zero and no gradient.

    It is the log-sum-exp of the remaining entries: 1 - sum(exp) loses all digits where the support holds nearly everything.
    """
    listed_nv = torch.zeros_like(student_nv, dtype=torch.bool)
    listed_nv.scatter_(1, support.ids_ns, value=True)
    absent = ~support.present_ns  # their ids are zero, which may be a token that is not listed
    if bool(absent.any()):
        listed_nv[:, 0] = (support.present_ns & (support.ids_ns == 0)).any(1)
    open_n = ~listed_nv.all(1)
    rest_nv = student_nv.masked_fill(listed_nv & open_n[:, None], -torch.inf)
    return rest_nv.logsumexp(1).where(open_n, torch.zeros(())), open_n


def _support_of(rows: TermRows) -> Support:
    assert rows.support is not None, "the linter lets divergences read supports only"
    return rows.support
