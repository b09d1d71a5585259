"""What the micro-batches of a step add up to: gradients in the parameters, the loss of each term, monitors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preceptor_student.batch import Item
from preceptor_student.gradients import TermGradients
from preceptor_student.head import Head
from preceptor_student.monitors import Means, watch_rows
from preceptor_student.policy import Policy
from preceptor_student.preferences import Settled, surrogate
from preceptor_student.reading import read_student
from preceptor_student.share import Share
from preceptor_student.term_loss import TermBatch, term_batch, term_loss
from preceptor_student.terms import PreparedStep
from preceptor_student.wholes import Wholes


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What holds for a whole step, whatever its micro-batches."""

    policy: Policy
    temperature: float
    prepared: PreparedStep
    wholes: Wholes
    preferences: Mapping[int, Settled]
    share: Share


class Accumulator:
    """One rank's part of a step, a micro-batch at a time."""

    def __init__(self, facts: StepFacts) -> None:
        terms, rank = range(len(facts.prepared.terms)), facts.share.rank
        settled = facts.preferences
        self.losses = [settled[place].loss if place in settled and not rank else 0.0 for place in terms]
        self.means, self.gradients = Means(), TermGradients(len(terms))
        self._facts = facts

    def add(self, batch: Sequence[Item], start: int) -> bool:
        """Adds a micro-batch whose first item is item `start` of the step. Whether there was a row to read."""
        facts = self._facts
        used = facts.prepared.used_rows[start : start + len(batch)]
        places = [place for place, rows in enumerate(used) if len(rows)]
        if not places:
            return False
        states_nh = facts.policy.row_states([batch[place] for place in places], [used[place] for place in places])
        kind = states_nh.new_empty(0, dtype=torch.promote_types(states_nh.dtype, torch.float32))  # losses are never narrower
        terms = enumerate(facts.prepared.terms)
        found = (term_batch(index, term, batch, start, used, kind, facts.wholes) for index, term in terms)
        self._add_terms([one for one in found if one is not None], states_nh, start)
        return True

    def go_along(self, item: Item) -> None:
        """A forward and a backward that move nothing: the other ranks gather and sum with this one."""
        policy = self._facts.policy
        self._backward(policy.row_states([item], [np.arange(1)]), policy.head(self._facts.temperature))

    def over_ranks(self) -> list[float]:
        """The losses of all ranks, term by term; means and gradients are of all ranks from then on."""
        share = self._facts.share
        if share.ranks == 1:
            return self.losses
        said = share.together([self.losses, self.gradients.squares, self.means.plain()])
        self.gradients.squares = [float(sum(column)) for column in zip(*(squares for _, squares, _ in said), strict=True)]
        for rank, (_, _, plain) in enumerate(said):
            if rank != share.rank:
                self.means.add_plain(plain)
        return [float(sum(column)) for column in zip(*(one for one, _, _ in said), strict=True)]

    def _add_terms(self, parts: Sequence[TermBatch], states_nh: Tensor, start: int) -> None:
        preferences, head = self._facts.preferences, self._facts.policy.head(self._facts.temperature)
        students = iter(read_student(states_nh, head, [lookup for one in parts for lookup in one.lookups]))
        for one in parts:
            student, *own = (next(students) for _ in one.lookups)
            leaf = self.gradients.leaf(student)
            if one.index in preferences:
                loss = surrogate(one, start, leaf, preferences[one.index].coefficients_i)
            else:
                loss, rows = term_loss(one, leaf, own)
                watch_rows(rows, self.means)
            self.losses[one.index] += loss.item()
            self.gradients.take(one.index, loss, student, leaf, one.lookup.asked)
        self._backward(states_nh, head)

    def _backward(self, states_nh: Tensor, head: Head) -> None:
        if self._facts.share.ranks > 1:
            self.gradients.touch(states_nh, head.weight_vh, head.bias_v)
        self.gradients.backward()


def check_comparable(prepared: PreparedStep, micro_batches: Sequence[Sequence[Item]], wholes: Wholes, policy: Policy) -> None:
    """Refuses states that do not fit their heads or the student: every rank does before any computes, whoever reads them."""
    start, kind = 0, torch.empty(0, device=policy.model.device)
    for batch in micro_batches:
        used = prepared.used_rows[start : start + len(batch)]
        for index, term in enumerate(prepared.terms):
            one = term_batch(index, term, batch, start, used, kind, wholes) if term.term.reads_states else None
            if one is not None and one.lookup.whole is not None:
                one.lookup.whole.check(policy.head_rows)
        start += len(batch)
