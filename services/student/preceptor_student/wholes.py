"""Terms that read hidden states: the teacher's states of a micro-batch, each before the head that its rows name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor_serving.models.vocabulary_head import Head
from preceptor_student.collate import Pair
from preceptor_student.full import Behind, HiddenStates, Whole
from preceptor_student.objectives import OBJECTIVES
from preceptor_student.terms import BoundTerm

HeadOf = Callable[[bytes], Head]
"""The head of a digest."""

Wholes = Callable[[BoundTerm, Sequence[Pair], Tensor], Whole | None]
"""What compares every token of a term's rows; None where it reads a few. The tensor gives dtype and device."""


def no_whole(_term: BoundTerm, _pairs: Sequence[Pair], _kind: Tensor) -> None:
    """For those whose terms read a few tokens."""


def wholes_from(heads: HeadOf, temperature: float) -> Wholes:
    """Comparisons through the heads that a teacher's rows name."""

    def whole(term: BoundTerm, pairs: Sequence[Pair], kind: Tensor) -> Whole | None:
        if not term.reads_states:
            return None
        summand, params = OBJECTIVES[term.objective.name].summand, term.objective.params
        if summand is None or not isinstance(params, DivergenceParams):
            raise InvalidArgument(f"{term.objective.name} cannot read hidden states", field="objective.json.terms.objective",
                                  value=term.objective.name)  # fmt: skip
        states = [one.signal.hidden_rh[one.rows] for _, one in pairs if one.signal.hidden_rh is not None]
        found = [heads(one.signal.head_sha256) for _, one in pairs]
        _check_alike(states, found)
        ends = np.cumsum([0, *map(len, states)]).tolist()
        behind = [Behind(slice(*ends[place : place + 2]), head) for place, head in enumerate(found)]
        return Whole(
            HiddenStates(torch.from_numpy(np.concatenate(states)).to(kind.device), _joined(behind), temperature), summand, params
        )

    return whole


def _check_alike(states: Sequence[np.ndarray], heads: Sequence[Head]) -> None:
    """A teacher may get new weights in the middle of a step, but no other architecture."""
    field = "scores.rows.hidden"
    for one, head in zip(states, heads, strict=True):
        if one.shape[1] != head.weight_vh.shape[1]:
            raise InvalidArgument("the states do not fit the head that they name", field=f"{field}.width", value=one.shape[1],
                                  limit=head.weight_vh.shape[1])  # fmt: skip
        if (head.rows, head.tokenizer_size) != (heads[0].rows, heads[0].tokenizer_size):
            raise InvalidArgument("the heads of one teacher differ in size within a micro-batch", field=f"{field}.head_sha256",
                                  value=head.rows, limit=heads[0].rows)  # fmt: skip


def _joined(behind: Sequence[Behind]) -> list[Behind]:
    """Neighbours before one head as one."""
    joined: list[Behind] = []
    for one in behind:
        if joined and joined[-1].head is one.head:
            joined[-1] = Behind(slice(joined[-1].rows.start, one.rows.stop), one.head)
        else:
            joined.append(one)
    return joined
