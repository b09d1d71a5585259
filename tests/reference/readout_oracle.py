"""The readout in float64 and plain loops: what every signal of one row means, with nothing clever in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.reference.philox import philox4x32

F64 = NDArray[np.float64]
TEACHER_DOMAIN = 0x74656163


def logits(states: ArrayLike, weight: ArrayLike, bias: ArrayLike = 0.0, scale: float = 1.0, soft_cap: float | None = None) -> F64:
    raw = (np.asarray(states, np.float64) @ np.asarray(weight, np.float64).T + np.asarray(bias, np.float64)) * scale
    return raw if soft_cap is None else soft_cap * np.tanh(raw / soft_cap)


def log_softmax(row: F64, temperature: float = 1.0) -> F64:
    """Over all rows of the head."""
    return row / temperature - log_sum_exp(row / temperature)


def log_sum_exp(values: Sequence[float] | F64) -> float:
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return -math.inf
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def topk(log_probs: F64, k: int, tokenizer_size: int) -> list[int]:
    """Ids of real tokens, descending, ties by the lower id."""
    return sorted(range(tokenizer_size), key=lambda i: (-log_probs[i], i))[:k]


def entropy(log_probs: F64) -> float:
    return -math.fsum(math.exp(x) * x for x in log_probs if x > -math.inf)


def tail(log_probs: F64, listed: Iterable[int]) -> float:
    """Log-mass outside the listed ids."""
    inside = set(listed)
    return log_sum_exp([x for i, x in enumerate(log_probs) if i not in inside])


def samples(log_probs: F64, seed: int, row: int, draws: int, tokenizer_size: int) -> list[int]:
    """Inverse CDF in id order, given that the token is a real one."""
    cdf = np.cumsum(np.exp(log_probs[:tokenizer_size]))
    found = []
    for draw in range(draws):
        w0, w1, *_ = (int(w) for w in philox4x32([draw, row, 0, TEACHER_DOMAIN], [seed & 0xFFFFFFFF, seed >> 32]))
        u = ((w0 << 21) | (w1 >> 11)) * 2.0**-53
        found.append(next(i for i in range(tokenizer_size) if cdf[i] > u * cdf[-1]))
    return found
