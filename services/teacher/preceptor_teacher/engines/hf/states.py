"""Keys and values of prefixes that may be asked for again: bounded, least recently used first out.

A growing task finds its own prefix by its key. Another task of the same scope (a tenant's job) that starts with the same tokens
finds as much of it as they share: the prompt of a group, the turns before this one, another view.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from preceptor.types import Ids
from preceptor_teacher.engines.hf.forward import KeyValues

MIN_SHARED_TOKENS = 16  # a shorter prefix of somebody else's costs more to join than to compute

Key = tuple[str, str]  # scope, task
Start = tuple[str, bytes]  # scope, the first MIN_SHARED_TOKENS tokens


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a task: its first tokens, and their keys and values."""

    ids: Ids
    key_values: KeyValues


class StateStore:
    """At most `max_tokens` tokens of states."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._states: OrderedDict[Key, State] = OrderedDict()
        # Only states that begin alike can share a prefix worth having: looking at all of them costs more than a small forward.
        self._alike: dict[Start, dict[Key, None]] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def tokens(self) -> int:
        return self._tokens

    def find(self, key: Key, ids: Ids, *, grid: int = 1) -> KeyValues | None:
        """Those of the longest known prefix of `ids`, in whole multiples of `grid` tokens; None where nothing helps."""
        own = self._states.get(key)
        best, tokens = own, 0 if own is None else shared_prefix(own.ids, ids)
        for other in self._alike.get(_start(key, ids), ()):
            state = self._states[other]
            if len(state.ids) > tokens and (shared := shared_prefix(state.ids, ids)) > tokens:
                best, tokens = state, shared
        tokens -= tokens % grid
        if key in self._states:
            self._states.move_to_end(key)
        return best.key_values.first(tokens) if best is not None and tokens else None

    def put(self, key: Key, ids: Ids, key_values: KeyValues) -> None:
        """Remembers a task's state in place of its older one; forgets others until it fits."""
        self.drop(key)
        if len(ids) > self.max_tokens:
            return
        while self._tokens + len(ids) > self.max_tokens:
            self.drop(next(iter(self._states)))
        self._states[key] = State(ids, key_values)
        self._tokens += len(ids)
        if len(ids) >= MIN_SHARED_TOKENS:
            self._alike.setdefault(_start(key, ids), {})[key] = None

    def drop(self, key: Key) -> None:
        """Forgets a task; an unknown one changes nothing."""
        state = self._states.pop(key, None)
        if state is None:
            return
        self._tokens -= len(state.ids)
        start = _start(key, state.ids)
        self._alike.get(start, {}).pop(key, None)
        if not self._alike.get(start, True):
            del self._alike[start]

    def clear(self) -> None:
        self._states.clear()
        self._alike.clear()
        self._tokens = 0


def _start(key: Key, ids: Ids) -> Start:
    return key[0], ids[:MIN_SHARED_TOKENS].tobytes()


def shared_prefix(one: Ids, other: Ids) -> int:
    """How many first tokens are equal."""
    count = min(len(one), len(other))
    differ = np.flatnonzero(one[:count] != other[:count])
    return int(differ[0]) if len(differ) else count
