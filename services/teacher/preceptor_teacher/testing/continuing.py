"""How the stand-in goes on with what somebody began, and how it says whether two continuations agree."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.testing.judging import agreement

_SHAPE = re.compile(r'\{"request": "([0-9a-f]+)", "(?:continuation": T|agree": N)\}')


@dataclass(frozen=True, slots=True)
class Continuing:
    """A request that is about the beginning of an answer, as its text states it."""

    prompt: str
    begun: str
    number: str
    both: tuple[str, str] | None = None
    """Two continuations that are compared; None: another one is wanted."""

    def reply(self, continued: str) -> str:
        """The answer of a provider that goes on like this."""
        said = {"continuation": continued} if self.both is None else {"agree": agreement(*self.both)}
        return json.dumps({"request": self.number, **said})


def read_continuing(text: str) -> Continuing | None:
    """What is to be continued or compared; None where the text asks for something else."""
    texts = fenced_texts(text)
    shape = _SHAPE.search(text.rpartition(" ends>>>")[2])
    if shape is None or not {"prompt", "response"} <= texts.keys():
        return None
    both = (texts["first"], texts["second"]) if "first" in texts and "second" in texts else None
    return Continuing(texts["prompt"], texts["response"], shape[1], both)
