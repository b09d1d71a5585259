"""Minus the smaller of ratio * advantage and clipped ratio * advantage; the advantage is detached."""

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes.ops.ppo_clip import PpoClipParams
from preceptor_student.objectives.ratios import log_ratio_n
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row."""
    return np.ones_like(signal.valid_r)


def loss(rows: TermRows, params: PpoClipParams) -> Tensor:
    """Of each row."""
    assert rows.advantage_n is not None, "the linter refuses a policy gradient without an advantage"
    ratio_n, advantage_n = log_ratio_n(rows, params).exp(), rows.advantage_n.detach()
    clipped_n = ratio_n.clamp(1 - params.low, 1 + params.high)
    return -torch.minimum(ratio_n * advantage_n, clipped_n * advantage_n)
