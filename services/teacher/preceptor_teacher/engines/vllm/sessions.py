"""Growing tasks that vLLM keeps open: their keys and values stay where they are, so that a chunk costs its own tokens.

The prefix cache alone would compute again what stands in the last, partial block: 64 tokens on average at blocks of 128.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from preceptor.types import Ids

Key = tuple[str, str]  # scope, task


@dataclass(frozen=True, slots=True)
class Session:
    """A request that vLLM holds, and the tokens that it has read."""

    request_id: str
    ids: Ids

    def leads_to(self, ids: Ids, first_state: int) -> bool:
        """True where reading on gives every state from `first_state` on."""
        known = len(self.ids)
        return known <= first_state and known < len(ids) and np.array_equal(self.ids, ids[:known])


class Sessions:
    """At most `max_count` sessions with `max_tokens` tokens, the least recently used one out first."""

    def __init__(self, max_count: int, max_tokens: int) -> None:
        self._max_count, self._max_tokens = max_count, max_tokens
        self._sessions: OrderedDict[Key, Session] = OrderedDict()
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def tokens(self) -> int:
        return self._tokens

    def take(self, key: Key) -> Session | None:
        """The session, which is no longer kept here."""
        session = self._sessions.pop(key, None)
        self._tokens -= 0 if session is None else len(session.ids)
        return session

    def put(self, key: Key, session: Session) -> None:
        self.take(key)
        self._sessions[key] = session
        self._tokens += len(session.ids)

    def surplus(self) -> Iterator[Session]:
        """Those that have to go, oldest first."""
        while len(self) > self._max_count or self._tokens > self._max_tokens:
            yield self.oldest()

    def oldest(self) -> Session:
        """The least recently used one, which is no longer kept here."""
        session = self.take(next(iter(self._sessions)))
        assert session is not None, "it was found a line ago"
        return session
