"""Sums over rows of the vocabulary without a second plane: a block of columns at a time, through a scratch that fits a cache.

Shapes: n rows, v columns, w columns of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_BLOCK_COLUMNS = 8192
BLOCK_COLUMNS = 16_384  # of an accelerator, to which few launches are worth more; its second cache holds tens of megabytes
MOST_BLOCKS = 4
LOWEST_IN_ENTROPY = -1e4  # exp of anything lower is 0 in f32, and 0 * -inf would be NaN


@dataclass(frozen=True, slots=True)
class Mass:
    """The sum of exp over each row, in two parts: log-probability = (logit - peak) - log.

    As one number it would carry the rounding of a large peak into every log-probability of its row.
    """

    peak_n: Tensor  # the row's largest value, 0 where that is infinite
    log_n: Tensor  # of the sum relative to the peak: 0 or more, -inf where a row holds nothing

    def log_probs(self, values_nm: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        """Of logits that stand in the given rows."""
        return values_nm.sub(self.peak_n[rows, None]).sub_(self.log_n[rows, None])

    def normalise_(self, values_nv: Tensor) -> Mass:
        """Turns all logits into log-probabilities where they stand; the mass of these."""
        values_nv.sub_(self.peak_n[:, None]).sub_(self.log_n[:, None])
        nothing_n = torch.zeros_like(self.peak_n)
        return Mass(nothing_n, nothing_n)

    def log_share_of(self, whole: Mass) -> Tensor:
        """[n], of this mass in another of the same rows."""
        return (self.peak_n - whole.peak_n) + self.log_n - whole.log_n


def mass_of(values_nv: Tensor) -> Mass:
    peak_n1 = _peaks(values_nv)
    sums = [torch.sub(block_nw, peak_n1, out=scratch_nw).exp_().sum(-1) for block_nw, scratch_nw in _blocks(values_nv)]
    return Mass(peak_n1[:, 0], torch.stack(sums).sum(0).log_())


def mass_and_entropy_of(values_nv: Tensor) -> tuple[Mass, Tensor]:
    """Both, in one pass: the entropy is log sum + sum(exp(-gap) * gap) / sum, with gap = peak - value, which cancels nothing."""
    peak_n1 = _peaks(values_nv)
    sums, weighted = list[Tensor](), list[Tensor]()
    for block_nw, scratch_nw in _blocks(values_nv):
        below_nw = (block_nw - peak_n1).clamp_min_(LOWEST_IN_ENTROPY)
        share_nw = torch.exp(below_nw, out=scratch_nw)
        sums.append(share_nw.sum(-1))
        weighted.append(share_nw.mul_(below_nw).sum(-1))
    sum_n, weighted_n = torch.stack(sums).sum(0), torch.stack(weighted).sum(0)
    log_n = sum_n.log()
    return Mass(peak_n1[:, 0], log_n), log_n - weighted_n.div_(sum_n)


def _peaks(values_nv: Tensor) -> Tensor:
    peak_n1 = values_nv.amax(-1, keepdim=True)
    return peak_n1.masked_fill_(peak_n1.isinf(), 0.0)


def _blocks(values_nv: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each block of columns, with a scratch of its shape."""
    rows, columns = values_nv.shape
    width = min(columns, CPU_BLOCK_COLUMNS if values_nv.is_cpu else max(BLOCK_COLUMNS, -(-columns // MOST_BLOCKS)))
    scratch = values_nv.new_empty(rows * width)
    for start in range(0, columns, width):
        block_nw = values_nv[:, start : start + width]
        yield block_nw, scratch[: block_nw.numel()].view(block_nw.shape)
