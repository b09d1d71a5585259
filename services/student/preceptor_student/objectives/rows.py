"""What the maths of an op works on: response rows laid out flat, whichever sequences they come from.

Shapes: n rows, s entries of the support, b buckets (support and tail). Only rows with a valid score get
here, so nothing has to be masked against NaN. Supports of several sequences differ in width: `present_ns` says which entries are
there, and the others hold zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preceptor_student.objectives.student import StudentRows


@dataclass(frozen=True, slots=True)
class Support:
    """A teacher's log-probabilities on a few different tokens of each row."""

    ids_ns: Tensor
    present_ns: Tensor
    teacher_ns: Tensor
    teacher_tail_n: Tensor | None  # log-mass of all other tokens; None: the recipe leaves the tail out
    top_ns: Tensor  # entries that are among the teacher's own most likely ones, members or not
    renormalise: bool = False  # the recipe divides both sides by their mass on the support
    apart: bool = False  # the drawn token is scored, and is a member only where a list holds it


@dataclass(frozen=True, slots=True)
class TermRows:
    """The rows of one term: the student on the tokens that the term reads, and what the teacher said."""

    student: StudentRows  # carries the gradient
    targets_n: Tensor
    teacher_sampled_n: Tensor | None = None
    support: Support | None = None
    compared_n: Tensor | None = None  # what an advantage that looks at the whole step gives the row
    advantage_n: Tensor | None = None  # detached
    teacher_entropy_n: Tensor | None = None
    step_reward_n: Tensor | None = None  # of each row's step
    step_n: Tensor | None = None  # which step of its response a row belongs to
    drawn_policy_n: Tensor | None = None  # what the rollout logged; None: some row of the term lacks it
    drawn_behaviour_n: Tensor | None = None
    owner_n: Tensor | None = None  # which response of the micro-batch a row belongs to, from 0 on
    row_n: Tensor | None = None  # which row of its response it is
    counts_n: Tensor | None = None  # rows of the loss; the others only complete the sums of earlier rows

    def student_sampled_n(self) -> Tensor:
        """The student's log-probability of each row's token."""
        return self.student.sampled_n


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
    """Student and teacher on the support and its tail; the buckets of a row with a tail sum to one."""
    support, student = _support_of(rows), rows.student
    if support.teacher_tail_n is None:
        bare = Buckets(student.listed_ns, support.teacher_ns, support.present_ns)
        return _renormalised(bare) if support.renormalise else bare
    teacher_tail_n = support.teacher_tail_n.where(student.open_n, torch.zeros(()))
    return Buckets(
        torch.cat([student.listed_ns, student.tail_n[:, None]], 1),
        torch.cat([support.teacher_ns, teacher_tail_n[:, None]], 1),
        torch.cat([support.present_ns, student.open_n[:, None]], 1),
    )


def bucket_entropy(both: Buckets, log_probs_nb: Tensor) -> Tensor:
    """The entropy of one side over the buckets; merging tokens into one bucket never raises it."""
    probs_nb = log_probs_nb.exp()
    return -both.total(torch.special.xlogy(probs_nb, probs_nb))


def _renormalised(both: Buckets) -> Buckets:
    def normal(log_probs_nb: Tensor) -> Tensor:
        inside_nb = log_probs_nb.masked_fill(~both.there_nb, -torch.inf)
        return (log_probs_nb - inside_nb.logsumexp(1, keepdim=True)).where(both.there_nb, torch.zeros(()))

    return Buckets(normal(both.student_nb), normal(both.teacher_nb), both.there_nb)


def _support_of(rows: TermRows) -> Support:
    assert rows.support is not None, "the linter lets divergences read supports only"
    return rows.support
