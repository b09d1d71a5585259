"""Preferences: pairs of whole responses, which may stand in different micro-batches.

The loss of a pair depends on the student through two sums of log-probabilities, so its gradient is that of the log-probabilities
times two numbers. A pass without gradient gives the sums, the sums give the numbers, and the step's own pass uses them row by
row: exact, whatever the micro-batches, for one more forward pass over the responses that are compared.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_student.batch import Item
from preceptor_student.objectives import PREFERENCES
from preceptor_student.objectives.kinds import Responses
from preceptor_student.objectives.student import Asked, StudentRows
from preceptor_student.policy import Policy
from preceptor_student.reading import Lookup, read_student
from preceptor_student.term_loss import TermBatch
from preceptor_student.terms import PreparedTerm


@dataclass(frozen=True, slots=True)
class Settled:
    """A preference before the step's own pass: its loss, and what each item's rows are to be multiplied by."""

    loss: float
    coefficients_i: NDArray[np.float64]


def settle(
    policy: Policy, temperature: float, terms: Sequence[PreparedTerm], micro_batches: Sequence[Sequence[Item]]
) -> Generator[None, None, dict[int, Settled]]:
    """Of each term that compares responses, by its place. Pauses after each micro-batch that it had to read."""
    comparing = {place: term for place, term in enumerate(terms) if term.pairs}
    if not comparing:
        return {}
    paired = {item for term in comparing.values() for pair in term.pairs for item in pair}
    sums = [0.0] * sum(map(len, micro_batches))
    start = 0
    for batch in micro_batches:
        wanted = [place for place in range(len(batch)) if start + place in paired]
        if wanted:
            found = _sums(policy, temperature, [batch[place] for place in wanted])
            for place, value in zip(wanted, found, strict=True):
                sums[start + place] = value
            yield
        start += len(batch)
    rows = [item.row_count for batch in micro_batches for item in batch]
    return {place: settled(term, sums, rows) for place, term in comparing.items()}


@torch.enable_grad()
def settled(term: PreparedTerm, sums_i: Sequence[float], rows_i: Sequence[int]) -> Settled:
    """From each item's sum of log-probabilities to the loss and the coefficients, in float64."""
    leaf_i = torch.tensor(sums_i, dtype=torch.float64, requires_grad=True)
    reference_i = torch.tensor([_reference(term, place) for place in range(len(sums_i))], dtype=torch.float64)
    weight_i = torch.tensor([one.weight if one else 1.0 for one in term.items], dtype=torch.float64)
    count_i = torch.tensor(rows_i, dtype=torch.float64)
    chosen, rejected = (torch.tensor(side) for side in zip(*term.pairs, strict=True))
    high, low = (Responses(leaf_i[side], reference_i[side], count_i[side]) for side in (chosen, rejected))
    loss_p = PREFERENCES[term.term.objective.name].loss(high, low, term.term.objective.params)
    loss = term.term.weight * (loss_p * weight_i[chosen] * weight_i[rejected]).sum() / term.divisor
    (gradient_i,) = torch.autograd.grad(loss, leaf_i)
    return Settled(float(loss.detach()), gradient_i.numpy())


def surrogate(batch: TermBatch, start: int, student: StudentRows, coefficients_i: NDArray[np.float64]) -> Tensor:
    """Zero, with the gradient of the term on this micro-batch; it starts at item `start` of the step."""
    found = zip(coefficients_i[start:], batch.term.items[start:], strict=True)
    factors = [np.full(len(one.rows), factor) for factor, one in found if one is not None and len(one.rows)]
    factor_n = torch.from_numpy(np.concatenate(factors))[: len(student.sampled_n)].to(student.sampled_n)
    return (factor_n * (student.sampled_n - student.sampled_n.detach())).sum()


def _reference(term: PreparedTerm, place: int) -> float:
    one = term.items[place]
    column = one.signal.sampled_r if one and len(one.rows) else None
    return 0.0 if column is None else float(np.sum(column, dtype=np.float64))


@torch.no_grad()
def _sums(policy: Policy, temperature: float, items: Sequence[Item]) -> list[float]:
    """The student's log-probability of each whole response."""
    every = [np.arange(item.row_count) for item in items]
    states_nh = policy.row_states(items, every)
    targets_n = torch.from_numpy(np.concatenate([item.targets_r for item in items])).to(states_nh.device)
    asked = Lookup(np.arange(len(targets_n)), Asked(targets_n))
    (student,) = read_student(states_nh, policy.head(temperature), [asked])
    return [float(part.double().sum()) for part in student.sampled_n.split([len(one) for one in every])]
