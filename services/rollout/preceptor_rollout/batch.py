"""Who runs in a unit, and who waits: sequences that ended make room for others of the unit.

What runs is at most `batch_tokens` tokens of cache, everyone counted at the length that the longest may reach. Beside it one
prompt is kept where only some of its samples have begun, so that the others need not read it again. A sequence that ended keeps
its place until an eighth of the batch has ended, so that a pass over new prompts pays; where nobody waits, until half has. In
deterministic mode the batch keeps the shape of its start until its last sequence ends: those that ended keep stepping, unread,
so that no token depends on when its neighbours end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.types import Ids
from preceptor_rollout.chunks import Stretch
from preceptor_rollout.decoding import Decoder, Prefix
from preceptor_rollout.guide import Row

REFILL = 8  # one in so many has ended: others take their places


@dataclass(slots=True, kw_only=True)
class Grown(Row):
    """One sequence, and what was drawn for it since its last chunk: one entry a token."""

    context: Ids
    policy: list[float] = field(default_factory=list)
    behaviour: list[float] = field(default_factory=list)
    provenance: list[int] = field(default_factory=list)
    top_ids: list[NDArray[np.int64]] = field(default_factory=list)

    def taken(self) -> Stretch:
        """What was drawn since the last chunk, which a next one does not hold."""
        stretch = Stretch(
            ids=np.array(self.ids[len(self.ids) - len(self.policy) :], np.uint32),
            policy=np.array(self.policy, np.float32),
            behaviour=np.array(self.behaviour, np.float32),
            provenance=np.array(self.provenance, np.uint8),
            top_ids=np.stack(self.top_ids) if self.top_ids else None,
        )
        self.policy, self.behaviour, self.provenance, self.top_ids = [], [], [], []
        return stretch


@dataclass(frozen=True, slots=True)
class Begun:
    """A group of which some run or have ended, and some wait."""

    context: Ids
    prefix: Prefix


class Batch:
    """The sequences of a unit. `rows` are those that run, in the order of the logits."""

    def __init__(self, model: Any, rows: Sequence[Grown], max_new_tokens: int, batch_tokens: int, *, fixed: bool) -> None:
        self.rows: list[Grown] = []
        self._begun: Begun | None = None
        self._waiting = deque(rows)
        self._model, self._decoder = model, Decoder(model)
        self._max_new_tokens, self._batch_tokens, self._fixed = max_new_tokens, batch_tokens, fixed

    @property
    def over(self) -> bool:
        return not self._waiting and not any(row.open for row in self.rows)

    def first(self) -> Tensor:
        """Logits of the sequences that begin."""
        return self._join(self._entering())

    @property
    def goes_back(self) -> bool:
        """Whether tokens that were drafted can be taken back."""
        return self._decoder.takes_more

    def ahead(self, ids_b: Tensor) -> Tensor:
        """Logits after one more token of each of `rows`, which may yet be taken back."""
        return self._decoder.next(ids_b)

    def next(self, ids_b: Tensor, back_b: NDArray[np.int64] | None = None) -> Tensor:
        """Logits after one more token of each of `rows`, and those of the sequences that join them.

        `back_b`: how many of the tokens that `ahead` took are forgotten before.
        """
        if back_b is not None and back_b.any():
            self._decoder.back(torch.from_numpy(back_b))
        entering: list[Grown] = []
        if self._makes_room():
            ids_b = ids_b[self._leave()]
            entering = self._entering()
        parts = [self._decoder.next(ids_b)] if self.rows else []
        return torch.cat([*parts, *([self._join(entering)] if entering else [])])

    def _makes_room(self) -> bool:
        everyone, alive = len(self.rows), sum(row.open for row in self.rows)
        if self._fixed or alive == everyone:
            return False
        if self._waiting and self._decoder.takes_more and REFILL * (everyone - alive) >= everyone:
            return True
        return 2 * alive <= everyone or everyone * (self._decoder.width + 1) > self._batch_tokens

    def _leave(self) -> list[int]:
        """Indices of the sequences that go on."""
        alive = [index for index, row in enumerate(self.rows) if row.open]
        self.rows = [self.rows[index] for index in alive]
        if alive:
            self._decoder.keep(alive)
        else:
            self._decoder = Decoder(self._model)
        return alive

    def _entering(self) -> list[Grown]:
        """Those that wait, in their order, as far as there is room for them; a sequence that is too large runs alone."""
        entering: list[Grown] = []
        longest = max((self._longest(row) for row in self.rows), default=0)
        while self._waiting and self._decoder.takes_more:
            longest = max(longest, self._longest(self._waiting[0]))
            running = len(self.rows) + len(entering)
            if running and (running + 1) * longest > self._batch_tokens and not self._fixed:
                break
            entering.append(self._waiting.popleft())
        return entering

    def _longest(self, row: Grown) -> int:
        return len(row.context) + self._max_new_tokens

    def _join(self, entering: Sequence[Grown]) -> Tensor:
        """Neighbours with one context are read once, whether they join together or one after the other."""
        groups = [list(group) for _, group in groupby(entering, key=lambda row: id(row.context))]
        parts: list[Tensor] = []
        if self._begun is not None and groups and groups[0][0].context is self._begun.context:
            parts.append(self._decoder.join_from(self._begun.prefix, len(groups.pop(0))))
        if groups:
            parts.append(self._decoder.join([group[0].context for group in groups], [len(group) for group in groups]))
            self._begun = self._kept(entering[-1], parts[-1])
        self.rows += entering
        return torch.cat(parts)

    def _kept(self, last: Grown, logits_bv: Tensor) -> Begun | None:
        """Of the context that was read last, if somebody waits with it."""
        if not self._waiting or self._waiting[0].context is not last.context:
            return None
        prefix = self._decoder.prefix(logits_bv)
        return None if prefix is None else Begun(last.context, prefix)
