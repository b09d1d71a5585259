"""Divergences of two probability vectors in plain formulas, float64: what the objectives are compared with.

p is the student's, q the teacher's, both over the last dimension. Zeros of q are allowed where the formula is finite.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.special import xlogy

Divergence = Callable[[Tensor, Tensor], Tensor]


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (xlogy(a, a) - xlogy(a, b)).sum(-1)


def reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    return kl(p, q)


def forward_kl(p: Tensor, q: Tensor) -> Tensor:
    return kl(q, p)


def jsd(beta: float) -> Divergence:
    return lambda p, q: beta * kl(q, beta * q + (1 - beta) * p) + (1 - beta) * kl(p, beta * q + (1 - beta) * p)


def skew_forward(skew: float) -> Divergence:
    return lambda p, q: kl(q, skew * q + (1 - skew) * p)


def skew_reverse(skew: float) -> Divergence:
    return lambda p, q: kl(p, skew * p + (1 - skew) * q)


def alpha(a: float) -> Divergence:
    return lambda p, q: (1 - (q.pow(a) * p.pow(1 - a)).sum(-1)) / (a * (1 - a))


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).abs().sum(-1) / 2


def squared_hellinger(p: Tensor, q: Tensor) -> Tensor:
    return 1 - (p * q + (p * q == 0)).sqrt().where(p * q > 0, 0.0).sum(-1)


def triangular(p: Tensor, q: Tensor) -> Tensor:
    return ((p - q).square() / (p + q)).sum(-1) / 2


def adaptive_kl(head_mass: float) -> Divergence:
    """One row at a time, as a person would do it."""

    def one(p: Tensor, q: Tensor) -> Tensor:
        head, mass = [], 0.0
        for i in sorted(range(len(q)), key=lambda i: -float(q[i].detach())):
            if mass >= head_mass:
                break
            head.append(i)
            mass += float(q[i])
        gap = (p - q).abs().detach()
        inside = gap[head].sum()
        share = inside / gap.sum() if gap.sum() > 0 else torch.zeros(())
        return share * kl(q, p) + (1 - share) * kl(p, q)

    return lambda p, q: torch.stack(
        [one(a, b) for a, b in zip(p.reshape(-1, p.shape[-1]), q.reshape(-1, q.shape[-1]), strict=True)]
    )


def gated(threshold: float, forward: float, reverse: float) -> Divergence:
    def loss(p: Tensor, q: Tensor) -> Tensor:
        entropy = -xlogy(q, q).sum(-1)
        return torch.where(entropy > threshold, forward * kl(q, p) + reverse * kl(p, q), kl(p, q))

    return loss
