"""What a behaviour policy is: whether a token needs the teacher, and which token it is then.

Shapes: b sequences, t ids that stand for a token, k ids of a list, n draws.

A policy sees only the sequences that it asked the teacher about; the others take the student's own draw. It is a function of its
three arguments: it keeps nothing, so that a rollout can be drawn again from its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.philox import FURTHER_DRAW, WHOLE, rollout_coin, rollout_sample_seed, rollout_uniform
from preceptor.types import Provenance


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted of the teacher's distribution of the next token."""

    topk: int = 0  # its likeliest ids, and the mass outside them
    draw: bool = False  # a token of its own
    proposal: bool = False  # the log-probability of the student's draw
    drafts: int = 1  # tokens that the student draws before it is asked; those behind one that does not stand are drawn again


@dataclass(frozen=True)
class Chance:
    """The random numbers of one token of each sequence; all of them are functions of the rollout's name and the position."""

    seed: int
    step: int
    prompt_b: NDArray[np.int64]
    sample_b: NDArray[np.int64]
    position_b: NDArray[np.int64]

    @cached_property
    def token_b(self) -> NDArray[np.float64]:
        """Draws the token, whoever does."""
        return rollout_uniform(self.seed, self.step, self.prompt_b, self.sample_b, self.position_b)

    @cached_property
    def coin_b(self) -> NDArray[np.float64]:
        """Decides between writers for this token."""
        return rollout_coin(self.seed, self.step, self.prompt_b, self.sample_b, self.position_b)

    @cached_property
    def sequence_coin_b(self) -> NDArray[np.float64]:
        """Decides between writers for the whole rollout."""
        return rollout_coin(self.seed, self.step, self.prompt_b, self.sample_b, WHOLE)

    @cached_property
    def sample_seed_b(self) -> NDArray[np.uint64]:
        """Keys what the teacher draws."""
        return rollout_sample_seed(self.seed, self.step, self.prompt_b, self.sample_b)

    def further_bn(self, draws: int) -> NDArray[np.float64]:
        """More draws of the same token."""
        position_bn = self.position_b[:, None] + FURTHER_DRAW * np.arange(1, draws + 1)
        return rollout_uniform(self.seed, self.step, self.prompt_b[:, None], self.sample_b[:, None], position_bn)

    def at(self, rows: NDArray[np.int64]) -> Chance:
        """Of these sequences only."""
        return Chance(self.seed, self.step, self.prompt_b[rows], self.sample_b[rows], self.position_b[rows])


@dataclass(frozen=True, slots=True)
class Proposed:
    """The student's distribution as it draws from it, and its draw."""

    log_probs_bt: Tensor  # -inf where its truncation keeps nothing
    ids_b: Tensor


@dataclass(frozen=True, slots=True)
class Advice:
    """What the teacher said; what was not asked for is empty."""

    top_ids_bk: Tensor
    top_bk: Tensor
    tail_b: Tensor  # log-mass outside the listed ids
    drawn_b: Tensor
    drawn_logprob_b: Tensor
    proposal_b: Tensor

    def to(self, device: torch.device) -> Advice:
        """The same where the student computes."""
        columns = (self.top_ids_bk, self.top_bk, self.tail_b, self.drawn_b, self.drawn_logprob_b, self.proposal_b)
        return Advice(*(column.to(device) for column in columns))


@dataclass(frozen=True, slots=True)
class Choice:
    """The token of each sequence, its log-probability under the policy, and who chose it."""

    ids_b: Tensor
    behaviour_b: Tensor
    provenance_b: NDArray[np.uint8]


class Policy(Protocol):
    """One way of drawing. `ask` is what `choose` reads of the teacher."""

    @property
    def ask(self) -> Ask: ...

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        """Which sequences need the teacher for their next token."""
        ...

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        """Their tokens."""
        ...


def everyone(chance: Chance) -> NDArray[np.bool_]:
    return np.ones(len(chance.position_b), np.bool_)


def nobody(chance: Chance) -> NDArray[np.bool_]:
    return np.zeros(len(chance.position_b), np.bool_)


def all_by(who: Provenance, chance: Chance) -> NDArray[np.uint8]:
    return np.full(len(chance.position_b), who, np.uint8)


def at(log_probs_bt: Tensor, ids_b: Tensor) -> Tensor:
    """The entry of one id in each row."""
    return log_probs_bt.gather(1, ids_b[:, None])[:, 0]


def outside(log_probs_bt: Tensor, ids_bk: Tensor) -> Tensor:
    """Log-mass of each row without these ids, in float64: summed over what remains, never as 1 minus what is gone."""
    return log_probs_bt.double().scatter(1, ids_bk, -np.inf).logsumexp(-1)
