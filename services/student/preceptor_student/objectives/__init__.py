"""The maths of every op, by the name of its spec in `preceptor.recipes.ops`: pure functions on tensors, one idea a file.

To add an op: its spec, a file here under the same name, and one line in the registry of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from preceptor_student.objectives import (
    forward_kl,
    group_relative,
    jsd,
    k1,
    nll,
    policy_gradient,
    reverse_kl,
    reward,
    sampled,
    support,
)
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import ItemScores, Mask, Signal


@dataclass(frozen=True, slots=True)
class Objective:
    """`usable(signal, head_rows)` marks rows on which the loss is finite; `loss(rows, params)` is one number for each row."""

    usable: Callable[[Signal, int], Mask]
    loss: Callable[[TermRows, Any], Tensor]


@dataclass(frozen=True, slots=True)
class Advantage:
    """`over_batch(rewards, groups, params)` gives each graded sequence of a step its number, where an advantage compares
    sequences; `per_row(rows, params)` gives each row its own."""

    usable: Callable[[Signal], Mask]
    per_row: Callable[[TermRows, Any], Tensor]
    over_batch: Callable[[Sequence[float], Sequence[str], Any], list[float]] | None = None


SIGNALS: dict[str, Callable[[ItemScores, Any], Signal]] = {
    "support": support.read,
    "sampled": sampled.read,
    "reward": reward.read,
}
"""Signal name -> what it makes of a teacher's columns."""

OBJECTIVES: dict[str, Objective] = {
    "reverse_kl": Objective(reverse_kl.usable, reverse_kl.loss),
    "forward_kl": Objective(forward_kl.usable, forward_kl.loss),
    "jsd": Objective(jsd.usable, jsd.loss),
    "policy_gradient": Objective(policy_gradient.usable, policy_gradient.loss),
    "nll": Objective(nll.usable, nll.loss),
}
"""Objective name -> its maths."""

ADVANTAGES: dict[str, Advantage] = {
    "k1": Advantage(k1.usable, k1.per_row),
    "group_relative": Advantage(group_relative.usable, group_relative.per_row, group_relative.over_batch),
}
"""Advantage name -> its maths."""

__all__ = ["ADVANTAGES", "OBJECTIVES", "SIGNALS", "Advantage", "Objective", "TermRows"]
