"""Divergences over the whole vocabulary against a teacher that gives whole rows, or hidden states and a head of its own.

Both sides exist a few rows at a time, and once more in the backward pass.
Shapes: n rows, h hidden size, v rows of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor_student.chunked import read_chunked
from preceptor_student.head import Head
from preceptor_student.objectives.divergence import Summand, over_buckets
from preceptor_student.objectives.rows import Buckets


class Teacher(Protocol):
    """Log-probabilities over the whole head, as many rows as are asked for."""

    @property
    def head_rows(self) -> int:
        """v."""
        ...

    def log_probs(self, rows: slice) -> Tensor:
        """[rows, v], without gradient."""
        ...


@dataclass(frozen=True, slots=True)
class WholeRows:
    """A teacher's scores of every token."""

    log_probs_nv: Tensor

    @property
    def head_rows(self) -> int:
        return self.log_probs_nv.shape[1]

    def log_probs(self, rows: slice) -> Tensor:
        return self.log_probs_nv[rows]


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """A teacher's final states, and the head that turns them into scores."""

    states_nh: Tensor
    head: Head

    @property
    def head_rows(self) -> int:
        return self.head.rows

    @torch.no_grad()
    def log_probs(self, rows: slice) -> Tensor:
        return self.head.log_probs(self.head.product(self.states_nh[rows]))


def full_divergence(
    states_nh: Tensor,
    head: Head,
    teacher: Teacher,
    summand: Summand,
    params: DivergenceParams,
    chunk_rows: int | None = None,
) -> Tensor:
    """Nats of each row, with gradient to the student's states and head."""
    if teacher.head_rows != head.rows:
        raise InvalidArgument(
            "student and teacher have heads of different sizes", field="teacher", value=teacher.head_rows, limit=head.rows,
            hint="compare them on a support: ids of real tokens agree where the tokenizers do",
        )  # fmt: skip
    if params.unbiased:
        raise InvalidArgument("nothing is sampled where every token is compared", field="unbiased", value=True, limit="false")
    return read_chunked(states_nh, head, _FullReader(teacher, summand, params), chunk_rows)[0]


@dataclass(frozen=True, slots=True)
class _FullReader:
    teacher: Teacher
    summand: Summand
    params: DivergenceParams

    def sizes(self, count: int) -> Sequence[int]:
        return (count,)

    def differentiable(self, log_probs_nv: Tensor, rows: slice) -> Sequence[Tensor]:
        everywhere = torch.ones((), dtype=torch.bool, device=log_probs_nv.device)
        both = Buckets(log_probs_nv, self.teacher.log_probs(rows).to(log_probs_nv.dtype), everywhere)
        return (over_buckets(both, self.summand, self.params),)

    def observed(self, log_probs_nv: Tensor, rows: slice) -> Sequence[Tensor]:
        return ()
