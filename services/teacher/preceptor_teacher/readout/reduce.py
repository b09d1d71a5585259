"""Sums over rows of the vocabulary without a second plane: a block of columns at a time, through a scratch that fits a cache.

Shapes: n rows, v columns, w columns of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_COLUMNS = 8192
LOWEST_IN_ENTROPY = -1e4  # exp of anything lower is 0 in f32, and 0 * -inf would be NaN


def log_sum_exp(values_nv: Tensor) -> Tensor:
    """[n], relative to each row's peak; -inf where a row holds nothing else."""
    if values_nv.is_cuda:  # one kernel a step: small blocks would only add launches
        return values_nv.logsumexp(-1)
    peak_n1 = values_nv.amax(-1, keepdim=True)
    base_n1 = torch.where(peak_n1.isinf(), 0.0, peak_n1)
    mass_n = values_nv.new_zeros(len(values_nv))
    for block_nw, scratch_nw in _blocks(values_nv):
        mass_n += torch.sub(block_nw, base_n1, out=scratch_nw).exp_().sum(-1)
    return mass_n.log_().add_(base_n1[:, 0])


def entropy(log_probs_nv: Tensor) -> Tensor:
    """[n], of normalised rows; what has probability zero adds nothing."""
    sum_n = log_probs_nv.new_zeros(len(log_probs_nv))
    for block_nw, scratch_nw in _blocks(log_probs_nv):
        probs_nw = torch.exp(block_nw, out=scratch_nw)
        sum_n += probs_nw.mul_(block_nw.clamp_min(LOWEST_IN_ENTROPY)).sum(-1)
    return sum_n.neg_()


def _blocks(values_nv: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each block of columns, with a scratch of its shape."""
    rows, columns = values_nv.shape
    width = columns if values_nv.is_cuda else min(columns, BLOCK_COLUMNS)
    scratch = values_nv.new_empty(rows * width)
    for start in range(0, columns, width):
        block_nw = values_nv[:, start : start + width]
        yield block_nw, scratch[: block_nw.numel()].view(block_nw.shape)
