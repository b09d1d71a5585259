"""What the maths of an op looks like, for each slot that it may stand in.

`Facts` is what is known of a sequence's rows before any forward pass; `usable` marks the rows on which the op has a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.objectives.divergence import Summand
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.samples import Pair, Sample
from preceptor_student.objectives.signals import Drawn, Mask, Signal


@dataclass(frozen=True, slots=True)
class Facts:
    """One sequence before the forward pass: the op's signal, what the rollout logged, and the size of the student's head."""

    signal: Signal
    drawn: Drawn
    head_rows: int


def every_row(facts: Facts, _params: Any) -> Mask:
    """For ops that have a number wherever their signal has one."""
    return np.ones_like(facts.signal.valid_r)


@dataclass(frozen=True, slots=True)
class Objective:
    """`usable(signal, head_rows)` marks rows on which the loss is finite; `loss(rows, params)` is one number for each row.
    `logged(facts, params)` marks rows that have the columns of the rollout which it reads. `summand`: of a divergence that is one
    sum over tokens, which can be taken over all of them."""

    usable: Callable[[Signal, int], Mask]
    loss: Callable[[TermRows, Any], Tensor]
    logged: Callable[[Facts, Any], Mask] = every_row
    summand: Summand | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """`loss(chosen, rejected, params)` is one number for each pair, from whole responses."""

    loss: Callable[[Responses, Responses, Any], Tensor]


@dataclass(frozen=True, slots=True)
class Responses:
    """Whole responses, one a pair: sums of log-probabilities over their rows, and how many rows those are."""

    student_p: Tensor  # carries the gradient
    reference_p: Tensor
    rows_p: Tensor


@dataclass(frozen=True, slots=True)
class Advantage:
    """`over_batch(rewards, groups, params)` gives each graded sequence of a step its number, where an advantage compares
    sequences, `over_steps(signals, groups, params)` each row of every one, where it compares their parts; `per_row(rows, params)`
    gives each row its own."""

    usable: Callable[[Facts, Any], Mask]
    per_row: Callable[[TermRows, Any], Tensor]
    over_batch: Callable[[Sequence[float], Sequence[str], Any], list[float]] | None = None
    over_steps: Callable[[Sequence[Signal], Sequence[str], Any], list[NDArray[np.float64]]] | None = None


def compared(rows: TermRows, _params: Any) -> Tensor:
    """Of each row what `over_batch` or `over_steps` gave it."""
    assert rows.compared_n is not None, "each row has the number that its op's look at the whole step gave it"
    return rows.compared_n


@dataclass(frozen=True, slots=True)
class Transform:
    """`apply(rows, advantage_n, params)` is the new advantage. One that looks at later rows narrows the rows that have an
    advantage to those whose later rows have one: `complete(usable_r, params)`."""

    apply: Callable[[TermRows, Tensor, Any], Tensor]
    usable: Callable[[Facts, Any], Mask] = every_row
    complete: Callable[[Mask, Any], Mask] | None = None


@dataclass(frozen=True, slots=True)
class TokenWeight:
    """`apply(rows, weight_n, params)` gives the new weights from those before it; or `select(targets_r, params)` leaves rows
    out before anything is computed; or `choose(signal, params)` does by its own signal, which then need not be valid there."""

    apply: Callable[[TermRows, Tensor, Any], Tensor] | None = None
    usable: Callable[[Facts, Any], Mask] = every_row
    select: Callable[[NDArray[np.int64], Any], Mask] | None = None
    choose: Callable[[Signal, Any], Mask] | None = None


SampleWeight = Callable[[Sequence[Sample], Any], list[float]]
"""Weights of all samples of a step that a term reads; NaN: it cannot be known, and the sample does not count."""

Condition = Callable[[Sequence[Sample], Any], list[bool | None]]
"""Which samples of a step a term reads; None: it cannot be known, and the sample does not count."""

Pairing = Callable[[Sequence[Sample], Any], list[Pair]]
"""(chosen, rejected), as places in the list of samples."""
