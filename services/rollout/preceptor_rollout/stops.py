"""When a rollout ends: its own EOS, an extra stop id, a stop string, or its length; and what its text is then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from preceptor.types import FinishReason
from preceptor_proto.v1 import rollout_pb2

Decode = Callable[[Sequence[int]], str]
"""Ids to text, special tokens included."""

WINDOW_MARGIN_TOKENS = 8  # the first characters of a decoded window may differ from those of the whole text


@dataclass(frozen=True, slots=True)
class StopRules:
    """The rules of one request."""

    eos_ids: frozenset[int]
    extra_ids: frozenset[int]
    strings: tuple[str, ...]
    max_new_tokens: int

    @classmethod
    def of(cls, sampling: rollout_pb2.Sampling, eos_ids: Sequence[int]) -> StopRules:
        eos = frozenset() if sampling.ignore_eos else frozenset(eos_ids)
        return cls(eos, frozenset(sampling.extra_stop_ids), tuple(sampling.stop), sampling.max_new_tokens)

    def ends(self, ids: Sequence[int], decode: Decode, first_row: int = 0) -> FinishReason | None:
        """Why the turn ends with its newest token; None while it goes on. Tokens stay as they were drawn.

        `first_row`: response tokens of the turns before, which the length counts.
        """
        if ids[-1] in self.eos_ids:
            return FinishReason.EOS
        if ids[-1] in self.extra_ids or self._has_string(ids, decode):
            return FinishReason.STOP
        return FinishReason.LENGTH if first_row + len(ids) >= self.max_new_tokens else None

    def trimmed(self, text: str) -> str:
        """The text before the first stop string in it."""
        found = [at for at in (text.find(stop) for stop in self.strings) if at >= 0]
        return text[: min(found)] if found else text

    def _has_string(self, ids: Sequence[int], decode: Decode) -> bool:
        """Only the newest tokens can complete a string, and each of them is at least one byte of it."""
        if not self.strings:
            return False
        window = max(len(stop.encode()) for stop in self.strings) + WINDOW_MARGIN_TOKENS
        text = decode(ids[-window:])
        return any(stop in text for stop in self.strings)
