"""Divergences over the whole vocabulary, against a teacher that gives hidden states and has a head, or gives whole rows.

Both sides exist a few rows at a time, and once more in the backward pass. Padding of a head, rows beyond the tokenizer's ids, is
one bucket: its size may differ between models of one tokenizer. A student without padding has no such bucket.
Shapes: n rows, h hidden size, v rows of the student's head, t real tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor_serving.models.vocabulary_head import Head
from preceptor_student.objectives import reverse_kl
from preceptor_student.objectives.divergence import Summand, over_buckets
from preceptor_student.objectives.rows import Buckets, bucket_entropy


class Teacher(Protocol):
    """Log-probabilities of every token, as many rows as are asked for."""

    @property
    def tokens(self) -> int:
        """t."""
        ...

    @property
    def has_padding(self) -> bool:
        """Whether its head has rows beyond the real tokens."""
        ...

    def log_probs(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        """[rows, t], and the log-mass [rows] of all padding where there is some; without gradient."""
        ...


@dataclass(frozen=True, slots=True)
class WholeRows:
    """A teacher's scores of every token."""

    log_probs_nt: Tensor
    padding_n: Tensor | None = None

    @property
    def tokens(self) -> int:
        return self.log_probs_nt.shape[1]

    @property
    def has_padding(self) -> bool:
        return self.padding_n is not None

    def log_probs(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        return self.log_probs_nt[rows], None if self.padding_n is None else self.padding_n[rows]


@dataclass(frozen=True, slots=True)
class Behind:
    """The states of these rows stand before this head."""

    rows: slice
    head: Head


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """A teacher's final states, and the head that turns them into scores: one, or several in turn where its weights changed."""

    states_nh: Tensor
    behind: Sequence[Behind]
    temperature: float = 1.0

    @property
    def tokens(self) -> int:
        return self.behind[0].head.tokenizer_size

    @property
    def has_padding(self) -> bool:
        return any(one.head.rows > self.tokens for one in self.behind)

    @torch.no_grad()
    def log_probs(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        found: list[Tensor] = []
        for one in self.behind:
            first, last = max(rows.start, one.rows.start), min(rows.stop, one.rows.stop)
            if first < last:
                found.append(self._of(one.head, self.states_nh[first:last]))
        log_probs_nv = found[0] if len(found) == 1 else torch.cat(found)
        if log_probs_nv.shape[1] == self.tokens:
            return log_probs_nv, None
        return log_probs_nv[:, : self.tokens], log_probs_nv[:, self.tokens :].logsumexp(1)

    def _of(self, head: Head, states_nh: Tensor) -> Tensor:
        logits_nv = head.logits(states_nh)
        return (logits_nv if self.temperature == 1.0 else logits_nv.div_(self.temperature)).log_softmax(-1)


class Whole:
    """A divergence over every token, and whom it is taken against.

    The teacher's rows that were asked for last are kept until the next ones: value and facts of a chunk need the same.
    """

    def __init__(self, teacher: Teacher, summand: Summand, params: DivergenceParams) -> None:
        if params.unbiased:
            raise InvalidArgument("nothing is sampled where every token is compared", field="unbiased", value=True, limit="false")
        self._teacher, self._summand, self._params = teacher, summand, params
        self._kept: tuple[slice, Tensor, Tensor | None] | None = None

    def check(self, head_rows: int) -> None:
        """`InvalidArgument` where this student's head cannot be compared with the teacher's."""
        tokens = self._teacher.tokens
        if tokens > head_rows:
            raise InvalidArgument(
                "the teacher has tokens that the student has not", field="teacher", value=tokens, limit=head_rows
            )
        if head_rows > tokens and not self._teacher.has_padding:
            raise InvalidArgument(
                "the student's head is padded and the teacher's is not, so the student alone has mass there", field="teacher",
                value=tokens, limit=head_rows, hint="compare them on a support: signal: {op: support, ...}",
            )  # fmt: skip

    def nats(self, student_nv: Tensor, rows: slice) -> Tensor:
        """The divergence of each row, with gradient."""
        return over_buckets(self._both(student_nv, rows), self._summand, self._params)

    def facts(self, student_nv: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The fields of `Compared` that carry no gradient, in their order."""
        with torch.enable_grad():
            leaf_nv = student_nv.detach().requires_grad_()
            (above_nv,) = torch.autograd.grad(self.nats(leaf_nv, rows).sum(), leaf_nv)
        probs_nv = student_nv.exp()
        gradient_nv = torch.addcmul(above_nv, probs_nv, above_nv.sum(1, keepdim=True), value=-1)
        squared_n = gradient_nv.square_().sum(1)
        both = self._both(student_nv, rows)
        gap_n = bucket_entropy(both, both.student_nb) - bucket_entropy(both, both.teacher_nb)
        return squared_n, over_buckets(both, reverse_kl.summand, reverse_kl.EXACT), gap_n

    def _both(self, student_nv: Tensor, rows: slice) -> Buckets:
        tokens_nt, padding_n = self._theirs(rows)
        tokens_nt = tokens_nt.to(student_nv.dtype)
        everywhere = torch.ones((), dtype=torch.bool, device=student_nv.device)
        tokens = tokens_nt.shape[1]
        if student_nv.shape[1] == tokens:
            return Buckets(student_nv, tokens_nt, everywhere)
        assert padding_n is not None, "check refuses a padded student beside a teacher without padding"
        own_nv = torch.cat([student_nv[:, :tokens], student_nv[:, tokens:].logsumexp(1, keepdim=True)], 1)
        return Buckets(own_nv, torch.cat([tokens_nt, padding_n[:, None].to(tokens_nt)], 1), everywhere)

    def _theirs(self, rows: slice) -> tuple[Tensor, Tensor | None]:
        if self._kept is None or self._kept[0] != rows:
            self._kept = None  # before the next ones are made: there is room for one plane
            self._kept = (rows, *self._teacher.log_probs(rows))
        return self._kept[1:]
