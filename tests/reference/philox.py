"""Philox4x32-10 in plain numpy: the counter-based random numbers that every sampled token is drawn with.

The key is the 64-bit seed of the run, the counter is (position, sample, prompt, step): a draw depends on what it is
for and on nothing else, so order, batching and restarts never change it. Constants and rounds follow
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
LOW, WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
ROUNDS = 10


def philox4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """Four random words for each counter: `counter` is [..., 4] and `key` is [..., 2], both of 32-bit words."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, np.uint64), -1, 0)
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (second >> WORD) ^ c1 ^ k0, second & LOW, (first >> WORD) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + KEY_STEPS[0]) & LOW, (k1 + KEY_STEPS[1]) & LOW
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), -1).astype(np.uint32)


def uniform(seed: int, step: int, prompt: ArrayLike, sample: ArrayLike, position: int) -> NDArray[np.float64]:
    """One number in [0, 1) per (prompt, sample): the upper 53 of the 64 bits that word 0, then word 1, spell, times 2^-53."""
    prompt, sample = np.broadcast_arrays(np.asarray(prompt, np.uint64), np.asarray(sample, np.uint64))
    counter = np.stack([np.full_like(prompt, position), sample, prompt, np.full_like(prompt, step)], -1)
    words = philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32]).astype(np.uint64)
    bits = (words[..., 0] << np.uint64(21)) | (words[..., 1] >> np.uint64(11))
    return bits.astype(np.float64) * 2.0**-53
