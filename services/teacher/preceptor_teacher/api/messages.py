"""What is asked of a provider, and what it answered, whatever it calls its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """One request, before it has a wire format."""

    messages: tuple[Message, ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text as a vector, and what that took."""

    vector: tuple[float, ...]
    reply: ChatReply


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the provider counted. `prompt` is all that it read: `cached` and `cache_written` are parts of it."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0  # read from its own prompt cache, at its discount
    cache_written: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.cache_written + other.cache_written,
        )


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the provider wrote, and what it took. A reply that was paid for before has cost nothing: no calls, no tokens."""

    text: str
    finish_reason: str  # stop, length, or the provider's own word for something rarer
    refused: bool
    calls: int = 0  # requests that were sent for it, failed ones included
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None  # None: the operator gave no prices
    remembered: bool = False  # of an equal request that was answered before
