"""What is kept of a request's hidden states while vLLM works through it, and how its want travels there.

A request's states may come in several pieces: chunked prefill, or a preemption that computes a piece again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEY = "preceptor"  # in SamplingParams.extra_args


@dataclass(frozen=True, slots=True)
class Read:
    """States wanted of a request: of tokens first .. last - 1. `call` tells two reads of one session apart."""

    call: int
    first: int
    last: int

    def extra_args(self) -> dict[str, Any]:
        """How it travels through vLLM: plain numbers, which every serialisation keeps."""
        return {KEY: [self.call, self.first, self.last]}


def read_of(params: Any) -> Read | None:
    """The read in a request's `SamplingParams`; None where there is none."""
    extra: Mapping[str, Any] = getattr(params, "extra_args", None) or {}
    return Read(*extra[KEY]) if KEY in extra else None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a request cost: tokens computed, and tokens before them whose keys and values were there already."""

    computed: int
    reused: int


@dataclass(slots=True)
class Reading:
    """The states of one read so far."""

    read: Read
    states: Tensor | None = None
    _there: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _computed: int = 0
    _reused: int | None = None

    def add(self, start: int, states: Tensor) -> None:
        """The states of tokens from `start` on; what the read does not want is not kept."""
        read = self.read
        self._computed += len(states)
        if self._reused is None:
            self._reused = start
        first, last = max(start, read.first), min(start + len(states), read.last)
        if first >= last:
            return
        if self.states is None:
            self.states = states.new_empty(read.last - read.first, states.shape[1])
            self._there = np.zeros(read.last - read.first, np.bool_)
        part = slice(first - read.first, last - read.first)
        self.states[part] = states[first - start : last - start]
        self._there[part] = True

    @property
    def missing(self) -> int:
        """How many states of the read never came."""
        return self.read.last - self.read.first - int(np.count_nonzero(self._there))

    @property
    def spent(self) -> Spent:
        return Spent(self._computed, self._reused or 0)

    def borrow(self, lender: Reading) -> None:
        """Takes the state of the token before the first one from a request that begins with the same tokens."""
        before = np.array([self.read.first - 1])
        if self.states is None or lender.missing:
            return  # it stays short of a state, and is counted
        self.states = torch.cat([lender.at(before), self.states])
        self._there = np.append(True, self._there)
        self.read = replace(self.read, first=self.read.first - 1)

    def at(self, tokens: NDArray[np.int64]) -> Tensor:
        """The states of these tokens of the read; only where none is missing."""
        assert self.states is not None, "nothing was read"
        return self.states[torch.from_numpy(tokens - self.read.first).to(self.states.device)]
