"""What a grader is, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from preceptor.types import GradeItem, Verdict
from preceptor_teacher.api.messages import ChatReply, Message


class Ask(Protocol):
    """One question to the judge: messages in, a reply out; the schema is what the reply should look like."""

    async def __call__(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> ChatReply: ...


class Grader(Protocol):
    """Judges one response at a time. The caller bounds how many are judged at once."""

    async def grade(self, item: GradeItem) -> Verdict:
        """A verdict, MISSING where the judge gave none that can be read. `PreceptorError` where the judge was not reached."""
        ...


@dataclass(frozen=True, slots=True)
class GraderSpec:
    """A grader by name: its parameters, and how one is made for a judge and with what its questions are marked."""

    name: str
    summary: str
    params: type[BaseModel]
    build: Callable[[Any, Ask, bytes | None], Grader]
