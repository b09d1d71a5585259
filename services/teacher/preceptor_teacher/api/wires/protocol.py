"""What a wire format is: pure functions between a question and bytes. `wires/__init__.py` says how to add one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from preceptor_teacher.api.messages import ChatReply, Question, Tokens
from preceptor_teacher.api.options import ApiOptions
from preceptor_teacher.api.wires.reading import Body


@dataclass(frozen=True, slots=True)
class Parsed:
    """A reply without its cost, and what the provider counted."""

    reply: ChatReply
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Wire:
    """One provider's shape. `read` raises `Unavailable` for what has another."""

    name: str
    path: Callable[[ApiOptions], str]
    key_headers: Callable[[str], dict[str, str]]
    body: Callable[[Question, ApiOptions], dict[str, Any]]
    read: Callable[[Body], Parsed]
    schemas: bool  # whether the JSON schema of the reply can be sent
    fixed_headers: tuple[tuple[str, str], ...] = ()
