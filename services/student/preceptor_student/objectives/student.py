"""What an objective reads of the student: log-probabilities of a few tokens of each row, never the whole vocabulary.

`look_up` and `observe` are the only functions here that see all v entries of a row, and they see a few rows at a time.
Shapes: n rows, v rows of the head, s entries of the support, k top entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Asked:
    """The tokens of each row that are read: its own, and those of a support. `tail` asks for the log-mass of all others."""

    targets_n: Tensor
    ids_ns: Tensor | None = None
    present_ns: Tensor | None = None
    tail: bool = False
    top: int = 0  # how many of the student's own most likely tokens are named

    def __getitem__(self, rows: slice) -> Asked:
        ids = None if self.ids_ns is None else self.ids_ns[rows]
        present = None if self.present_ns is None else self.present_ns[rows]
        return Asked(self.targets_n[rows], ids, present, self.tail, self.top)


@dataclass(frozen=True, slots=True)
class Observed:
    """Facts about whole rows, without gradient."""

    entropy_n: Tensor
    collision_n: Tensor  # sum of squared probabilities
    top_ids_nk: Tensor


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a comparison over every token, one number a row. `nats_n` carries the gradient; the others are facts."""

    nats_n: Tensor
    gradient_squared_n: Tensor  # of nats_n with respect to all of the row's logits
    reverse_kl_n: Tensor
    entropy_gap_n: Tensor  # student minus teacher


@dataclass(frozen=True, slots=True)
class StudentRows:
    """The student on the asked tokens, with gradient. Absent entries, and the tail of a row without one, hold zero."""

    sampled_n: Tensor
    listed_ns: Tensor
    tail_n: Tensor
    open_n: Tensor  # rows that have an outside: tokens beside those of the support
    observed: Observed
    compared: Compared | None = None  # where a term compares every token

    @property
    def carrying(self) -> tuple[Tensor, ...]:
        """The parts with a gradient."""
        few = (self.sampled_n, self.listed_ns, self.tail_n)
        return few if self.compared is None else (*few, self.compared.nats_n)

    def carried_by(self, parts: Sequence[Tensor]) -> StudentRows:
        """The same with these in their place."""
        sampled_n, listed_ns, tail_n, *rest = parts
        compared = replace(self.compared, nats_n=rest[0]) if self.compared else None
        return replace(self, sampled_n=sampled_n, listed_ns=listed_ns, tail_n=tail_n, compared=compared)


def read_rows(log_probs_nv: Tensor, asked: Asked) -> StudentRows:
    """The rows at once, for those who hold the log-probabilities already."""
    open_n = open_rows(asked, log_probs_nv.shape[1])
    return StudentRows(*look_up(log_probs_nv, asked, open_n), open_n, observe(log_probs_nv, asked))


def open_rows(asked: Asked, head_rows: int) -> Tensor:
    """Whether a row has tokens outside of its support; each token stands in a support at most once."""
    if not asked.tail or asked.present_ns is None:
        return torch.zeros_like(asked.targets_n, dtype=torch.bool)
    return asked.present_ns.sum(1) < head_rows


def look_up(log_probs_nv: Tensor, asked: Asked, open_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(own token, support, tail) of each row.

    The tail is the log-sum-exp of the remaining entries: 1 - sum(exp) loses all digits where the support holds nearly
    everything.
    """
    sampled_n = log_probs_nv.gather(1, asked.targets_n[:, None])[:, 0]
    if asked.ids_ns is None:
        return sampled_n, sampled_n.new_zeros(len(sampled_n), 0), torch.zeros_like(sampled_n)
    assert asked.present_ns is not None, "what is asked for says which of its entries are there"
    zero = sampled_n.new_zeros(())
    listed_ns = log_probs_nv.gather(1, asked.ids_ns).where(asked.present_ns, zero)
    if not asked.tail:
        return sampled_n, listed_ns, torch.zeros_like(sampled_n)
    rest_nv = log_probs_nv.masked_fill(_listed(log_probs_nv, asked.ids_ns, asked.present_ns) & open_n[:, None], -torch.inf)
    return sampled_n, listed_ns, rest_nv.logsumexp(1).where(open_n, zero)


def _listed(log_probs_nv: Tensor, ids_ns: Tensor, present_ns: Tensor) -> Tensor:
    """Marks the members; an id that also stands in an absent entry stays one."""
    marks_nv = torch.zeros_like(log_probs_nv, dtype=torch.uint8)
    return marks_nv.scatter_reduce_(1, ids_ns, present_ns.to(torch.uint8), "amax").bool()


@torch.no_grad()
def observe(log_probs_nv: Tensor, asked: Asked) -> Observed:
    """Entropy, concentration and top tokens of each row."""
    top_nk = log_probs_nv.topk(asked.top, dim=1).indices
    probs_nv = log_probs_nv.exp()
    entropy_n = -torch.special.xlogy(probs_nv, probs_nv).sum(1)
    return Observed(entropy_n, probs_nv.square_().sum(1), top_nk)
