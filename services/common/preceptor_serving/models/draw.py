"""Counter-based draws from a row by inverse CDF in float64 and id order.

Rows of the head from `tokenizer_size` on stand for no token and are never drawn: a draw is from the distribution given that
the token is a real one, so the random number is scaled by the real tokens' total mass. Their log-probabilities are still
those of the whole head; the padding's mass shows in the tail.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CPU_BLOCK_BYTES = 16 << 20
BLOCK_BYTES = 64 << 20  # fewer launches


def draw(log_probs_nt: Tensor, uniform_nd: NDArray[np.float64] | Tensor) -> Tensor:
    """Ids [n, d] of the real tokens' log-probabilities [n, t]; `uniform_nd` holds numbers in [0, 1)."""
    rows, width = log_probs_nt.shape
    ids_nd = torch.empty(uniform_nd.shape, dtype=torch.int64, device=log_probs_nt.device)
    step = max(1, (CPU_BLOCK_BYTES if log_probs_nt.is_cpu else BLOCK_BYTES) // (8 * width))
    uniform = torch.as_tensor(uniform_nd, device=log_probs_nt.device)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        mass = log_probs_nt[part].to(torch.float64, copy=True).exp_().cumsum_(-1)
        total = mass[:, -1:].contiguous()
        found = torch.searchsorted(mass, uniform[part] * total, right=True)
        # Should rounding carry u * total up to the total, the last token with any mass is the one meant.
        ids_nd[part] = torch.minimum(found, torch.searchsorted(mass, total))
    return ids_nd
