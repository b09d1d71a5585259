"""Keys and values with a time to live, and the rule that one step touches keys of one slot.

This is as much of a Redis as the queue needs, for one process. A `Slot` is what a script sees: it remembers which slot its first
key named and refuses any other, so an operation that works here has the shape of one server-side script.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from preceptor.errors import Internal
from preceptor.queue.keys import slot_tag

Value = TypeVar("Value")
SWEEP_EVERY = 4096


@dataclass(slots=True)
class _Held:
    value: object
    expires_ms: int | None


class KeySpace:
    """All values of one queue."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._steps = 0

    def step(self, now_ms: int) -> Slot:
        """The view for one atomic step. What has expired by now is gone."""
        self._steps += 1
        if self._steps % SWEEP_EVERY == 0:
            self._sweep(now_ms)
        return Slot(self._held, now_ms)

    def keys(self) -> tuple[str, ...]:
        """All keys held, expired ones that nobody touched included."""
        return tuple(self._held)

    def discard(self, key: str) -> bool:
        """Lose one value, as a server does that was restarted from an older file."""
        return self._held.pop(key, None) is not None

    def _sweep(self, now_ms: int) -> None:
        for key in [key for key, held in self._held.items() if held.expires_ms is not None and held.expires_ms <= now_ms]:
            del self._held[key]


class Slot:
    """What one script sees: keys of one slot at one moment."""

    def __init__(self, held: dict[str, _Held], now_ms: int) -> None:
        self._held = held
        self._tag: str | None = None
        self.now_ms = now_ms
        self.touched: set[str] = set()

    def get(self, key: str, kind: type[Value]) -> Value | None:
        """The live value, or None."""
        self._guard(key)
        held = self._held.get(key)
        if held is None:
            return None
        if held.expires_ms is not None and held.expires_ms <= self.now_ms:
            del self._held[key]
            return None
        if not isinstance(held.value, kind):
            raise Internal(f"{key} holds a {type(held.value).__name__}", field="key", value=key, limit=kind.__name__)
        return held.value

    def ensure(self, key: str, kind: type[Value]) -> Value:
        """The live value; an empty one is put there if there is none."""
        value = self.get(key, kind)
        if value is None:
            value = kind()
            self._held[key] = _Held(value, None)
        return value

    def put(self, key: str, value: object) -> None:
        """Set, without a time to live."""
        self._guard(key)
        self._held[key] = _Held(value, None)

    def expire(self, key: str, ttl_s: float) -> None:
        """Live that long from now. Nothing happens to a key that is not there."""
        self._guard(key)
        held = self._held.get(key)
        if held is not None:
            held.expires_ms = self.now_ms + int(ttl_s * 1000)

    def delete(self, key: str) -> None:
        """Gone."""
        self._guard(key)
        self._held.pop(key, None)

    def _guard(self, key: str) -> None:
        self.touched.add(key)
        tag = slot_tag(key)
        self._tag = self._tag or tag
        if tag != self._tag:
            raise Internal("one step touched two slots", field="key", value=key, limit=self._tag)
