"""How much of a step's gradient each term brings, and the one backward pass for all of them.

Terms meet the model in the student's rows that they read. Each term is differentiated with respect to copies of those rows; the
sums go through head and model at once. From the copies' gradients follows each term's exact gradient with respect to the logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from preceptor_student.objectives.student import Asked, StudentRows


class TermGradients:
    """Collects the gradients of one step, micro-batch by micro-batch."""

    def __init__(self, terms: int) -> None:
        self.squares = [0.0] * terms  # of what `norms` gives
        self._outputs: list[Tensor] = []
        self._above: list[Tensor] = []

    @staticmethod
    def leaf(student: StudentRows) -> StudentRows:
        """A copy that a term may be differentiated by."""
        return student.carried_by([one.detach().requires_grad_() for one in student.carrying])

    def take(self, term: int, loss: Tensor, student: StudentRows, leaf: StudentRows, asked: Asked) -> None:
        """Differentiates a term's loss by its `leaf`; the result waits for `backward`."""
        if not loss.requires_grad:  # every row of the term is constant, such as one whose clamp cuts all
            return
        above = torch.autograd.grad(loss, leaf.carrying, allow_unused=True, materialize_grads=True)
        self.squares[term] += float(logit_gradient_squared_n(leaf, asked, above).double().sum())
        self._outputs += student.carrying
        self._above += above

    def touch(self, *tensors: Tensor | None) -> None:
        """Sends zero through these: ranks sum the gradients of the same tensors, whatever their rows read."""
        for one in tensors:
            if one is not None and one.requires_grad:
                self._outputs.append(one)
                self._above.append(torch.zeros_like(one))

    def backward(self) -> None:
        """Sends what was taken through head and model."""
        if self._outputs:
            torch.autograd.backward(self._outputs, self._above)
        self._outputs, self._above = [], []

    def norms(self) -> list[float]:
        """Of each term: the norm of its gradient with respect to the logits (after temperature) of all rows of the step."""
        return [math.sqrt(square) for square in self.squares]


@torch.no_grad()
def logit_gradient_squared_n(student: StudentRows, asked: Asked, above: Sequence[Tensor]) -> Tensor:
    """The squared norm of each row's gradient with respect to all its logits, from that to the few log-probabilities.

    d log p_v / d z_w = [v = w] - p_w, so token w gets its own share minus p_w times the sum of all. Tokens of the tail share its
    gradient by their part in it; they are all alike up to p_w, which is why the sum of squared probabilities is enough.
    A comparison of every token brings its own norm; a term that has one reads nothing else.
    """
    if student.compared is not None:
        return above[-1].square() * student.compared.gradient_squared_n
    d_own_n, d_listed_ns, d_tail_n = above
    d_tail_n = d_tail_n * student.open_n  # what is not there is constant
    if asked.present_ns is not None:
        d_listed_ns = d_listed_ns * asked.present_ns
    total_n = d_own_n + d_listed_ns.sum(1) + d_tail_n
    in_tail_n = d_tail_n * (-student.tail_n).exp() - total_n
    own_p_n = student.sampled_n.exp()
    rest_n = student.observed.collision_n - own_p_n.square()
    if asked.ids_ns is None or asked.present_ns is None:
        return (d_own_n - own_p_n * total_n).square() + rest_n.clamp_min(0) * total_n.square()
    own_ns = asked.present_ns & (asked.ids_ns == asked.targets_n[:, None])
    apart_n = ~own_ns.any(1)
    p_ns = student.listed_ns.exp().where(asked.present_ns, torch.zeros_like(student.listed_ns))
    listed_n = (d_listed_ns + own_ns * d_own_n[:, None] - p_ns * total_n[:, None]).square().sum(1)
    alone_n = (d_own_n + own_p_n * in_tail_n).square() * apart_n
    rest_n = student.observed.collision_n - p_ns.square().sum(1) - own_p_n.square() * apart_n
    return listed_n + alone_n + rest_n.clamp_min(0) * in_tail_n.square()
