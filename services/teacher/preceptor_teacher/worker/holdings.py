"""What a worker holds of each flow, in leases and in tokens, and how much more it takes. A judge's worker counts texts as tokens.

A lease keeps a task from every other worker, so no more is held than keeps the engine full. What a task weighs is known when its
log has been read; until then it counts as the largest of the flow's latest tasks.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass

from preceptor.queue import Flow
from preceptor_teacher.worker.policy import WorkerPolicy

AT_ENGINE = 2  # tasks, however long: one is computed, one is read
KEPT_FLOWS = 1024
FADE = 0.75  # of what a large task makes its flow's next ones look like, for each smaller one that follows


@dataclass(slots=True, eq=False)
class Held:
    """One lease in hand."""

    holdings: Holdings
    flow: Flow
    unscored_tokens: int | None = None  # None until its log has been read

    def weighs(self, tokens: int) -> None:
        """So much of its task is not scored yet."""
        self.holdings.weighed(self, tokens)


class Holdings:
    """The leases of one worker. `moved` is set when there may be room for more."""

    def __init__(self, policy: WorkerPolicy, batch_tokens: int) -> None:
        self._policy, self._batch_tokens = policy, batch_tokens
        self._held: dict[Flow, set[Held]] = {}
        self._guesses: OrderedDict[Flow, float] = OrderedDict()
        self.moved = asyncio.Event()

    @property
    def count(self) -> int:
        return sum(map(len, self._held.values()))

    def room(self, flow: Flow, ready: int) -> int:
        """How many of the flow's ready tasks to lease: what fits its bound of tokens, a second one where the first leaves any."""
        mine = self._held.get(flow, ())
        guess = max(1.0, self._guesses.get(flow, self._batch_tokens))
        tokens = sum(guess if held.unscored_tokens is None else held.unscored_tokens for held in mine)
        fit = (self._policy.batches_per_flow * self._batch_tokens - tokens) / guess
        by_tokens = max(math.floor(fit), min(AT_ENGINE - len(mine), math.ceil(fit)))
        by_count = min(self._policy.leases - self.count, self._policy.leases_per_flow - len(mine), ready)
        return max(0, min(by_count, by_tokens))

    def begin(self, flow: Flow) -> Held:
        held = Held(self, flow)
        self._held.setdefault(flow, set()).add(held)
        return held

    def end(self, held: Held) -> None:
        mine = self._held[held.flow]
        mine.discard(held)
        if not mine:
            del self._held[held.flow]
        self.moved.set()

    def weighed(self, held: Held, tokens: int) -> None:
        if held.unscored_tokens is None:
            self._guesses[held.flow] = max(float(tokens), FADE * self._guesses.pop(held.flow, 0.0))
            if len(self._guesses) > KEPT_FLOWS:
                self._guesses.popitem(last=False)
        held.unscored_tokens = tokens
        self.moved.set()
