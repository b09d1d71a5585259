"""What a grader is, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from preceptor.types import GradeItem, Verdict
from preceptor_teacher.api.messages import ChatReply, Embedded, Message
from preceptor_teacher.discriminator.groups import Answer, AskedGroup
from preceptor_teacher.discriminator.params import DiscriminatorParams
from preceptor_teacher.graders.watching import Watch, unwatched
from preceptor_teacher.mathematics import MathProcess


class Ask(Protocol):
    """One question to the judge: messages in, a reply out; the schema is what the reply should look like."""

    async def __call__(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> ChatReply: ...


class Embed(Protocol):
    """A text as a vector of the provider."""

    async def __call__(self, text: str) -> Embedded: ...


JUDGE, CHECK, DISCRIMINATOR = "api", "check", "discriminator"
"""Engines of teachers that grade."""


class TellApart(Protocol):
    """A group and the teacher's text to the scores of a discriminator, which may learn from them afterwards."""

    async def __call__(self, group: AskedGroup, params: DiscriminatorParams) -> Answer: ...


class Grader(Protocol):
    """Judges one response at a time. The caller bounds how many are judged at once."""

    async def grade(self, item: GradeItem) -> Verdict:
        """A verdict, MISSING where the judge gave none that can be read. `PreceptorError` where the judge was not reached."""
        ...


@runtime_checkable
class GroupGrader(Protocol):
    """Judges the responses of one group against each other."""

    async def grade_group(self, items: Sequence[GradeItem]) -> list[Verdict]:
        """One verdict for each item, in order; of equal responses the first bears the cost. `InvalidArgument` for a group that
        cannot be compared, another `PreceptorError` where the judge was not reached."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What a served grader may use. The engine says who serves it, and which of the others there are."""

    ask: Ask | None = None
    """Puts a question to the judge, or a prompt to a discriminator's writer."""

    secret: bytes | None = field(default=None, repr=False)
    """Makes the same item the same question to the letter; without one its marks are drawn afresh."""

    embed: Embed | None = None
    """Of a judge whose provider has embeddings: makes a vector of a text."""

    mathematics: MathProcess | None = None
    watch: Watch = unwatched
    engine: str = JUDGE
    tell_apart: TellApart | None = None


@dataclass(frozen=True, slots=True)
class GraderSpec:
    """A grader by name: its parameters, how one is made, whose engine serves it, and whether it tells steps apart."""

    name: str
    summary: str
    params: type[BaseModel]
    build: Callable[[Any, Means], Grader | GroupGrader]
    engine: str = JUDGE
    steps: bool = False  # whether it can tell the steps of a response apart
