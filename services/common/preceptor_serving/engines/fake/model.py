"""The automaton: tokens -> state -> logits.

Shapes: S states, h hidden size, V rows of the head, T tokenizer size, n rows.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from preceptor.philox import philox4x32
from preceptor.types import Ids

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Index = NDArray[np.int64]

HIDDEN = 8
LOGIT_UNIT = np.float32(0.125)  # logits are small multiples of it: exact in f32, and often equal
STATE_DOMAIN, HEAD_DOMAIN = 1, 2
_STEP = 0x9E3779B97F4A7C15  # odd, so that powers of it never vanish mod 2^64
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class FakeModel:
    """A distribution over `head_rows` ids after any prefix, of which the last `head_rows - tokenizer_size` are padding."""

    def __init__(self, seed: int, states: int, head_rows: int, tokenizer_size: int) -> None:
        self.seed, self.states, self.head_rows, self.tokenizer_size = seed, states, head_rows, tokenizer_size
        self.states_Sh = _small_integers(seed, STATE_DOMAIN, states)
        self.head_Vh = _small_integers(seed, HEAD_DOMAIN, head_rows)

    @cached_property
    def logits_SV(self) -> F32:
        return (self.states_Sh @ self.head_Vh.T) * LOGIT_UNIT

    @cached_property
    def head_sha256(self) -> bytes:
        return hashlib.sha256(self.head_Vh.astype("<f4").tobytes()).digest()

    @cached_property
    def weights_sha256(self) -> bytes:
        return hashlib.sha256(self.states_Sh.astype("<f4").tobytes() + self.head_sha256).digest()

    def state_after(self, ids: Ids, prefix_tokens: Index) -> Index:
        """The state after ids[:p] for each p: a polynomial hash of the prefix, mixed, modulo the number of states."""
        with np.errstate(over="ignore"):
            steps = np.full(len(ids), _STEP, np.uint64)
            powers = np.cumprod(steps) if len(ids) else steps
            sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum((ids.astype(np.uint64) + np.uint64(1)) * powers)])
            mixed = sums[prefix_tokens] ^ np.uint64(self.seed)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
            mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
        return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(self.states)).astype(np.int64)

    def logits_after(self, ids: Ids) -> F32:
        """All logits after a prefix; an oracle starts from these."""
        return self.logits_SV[self.state_after(ids, np.array([len(ids)]))[0]]


def _small_integers(seed: int, domain: int, rows: int) -> F32:
    """[rows, h] of -2 .. 2, drawn by counter."""
    words = philox4x32((np.arange(HIDDEN), np.arange(rows)[:, None], 0, domain), seed)
    return (words[..., 0] % np.uint32(5)).astype(np.float32) - np.float32(2)
