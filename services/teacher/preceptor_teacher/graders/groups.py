"""The responses of one group: what graders that compare hold against each other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from preceptor.errors import InvalidArgument, TooLarge
from preceptor.types import GradeItem
from preceptor_teacher.graders.verdicts import NoVerdict

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Responses to one prompt. Equal ones are one text: there is nothing to ask about them."""

    prompt: str
    reference: str
    texts: tuple[str, ...]  # different ones, in the order in which they first come
    places: tuple[int, ...]  # of each item: its text

    def labelled(self, **texts: str) -> dict[str, str]:
        """What strangers wrote, by label: the prompt, the reference where there is one, and these."""
        return {"prompt": self.prompt, **({"reference": self.reference} if self.reference else {}), **texts}

    def firsts(self) -> list[bool]:
        """Of each item, whether it is the first of its text; the others have its verdict and none of its cost."""
        return [self.places.index(text) == item for item, text in enumerate(self.places)]


def group_of(items: Sequence[GradeItem], grader: str, most: int) -> Group:
    """The group that these items are; one that cannot be compared is refused by its name."""
    name = items[0].group
    if len(items) < 2:
        raise InvalidArgument(
            f"grader {grader} compares the responses of a group, and group {name!r} has one",
            field="group",
            value=name,
            limit=">= 2 items",
            hint="send all responses to a prompt in one request, under one group; a recipe needs samples_per_prompt >= 2",
        )
    for field in ("prompt", "reference"):
        if len({getattr(item, field) for item in items}) > 1:
            raise InvalidArgument(
                f"grader {grader} compares the responses to one {field}, and group {name!r} has several",
                field="group",
                value=name,
                limit=f"one {field}",
                hint="give the items of each prompt a group of their own",
            )
    texts = tuple(dict.fromkeys(item.response for item in items))
    if len(texts) > most:
        raise TooLarge(
            f"group {name!r} has more different responses than grader {grader} compares",
            field="group",
            value=len(texts),
            limit=f"<= {most}",
        )
    return Group(items[0].prompt, items[0].reference, texts, tuple(texts.index(item.response) for item in items))


async def all_of(*questions: Coroutine[Any, Any, T]) -> list[T]:
    """What they return. Where some fail the others still end, so that their replies are kept, and the first error is
    raised: one that may pass before a judge's silence, which is final."""
    found = await asyncio.gather(*questions, return_exceptions=True)
    errors = [one for one in found if isinstance(one, BaseException)]
    for error in sorted(errors, key=lambda one: isinstance(one, NoVerdict)):
        raise error
    return [one for one in found if not isinstance(one, BaseException)]
