"""How the stand-in scores each step of a response: one whose words it would have written in the same place is perfect."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from preceptor_teacher.graders.fence import fenced_texts
from preceptor_teacher.testing.judging import HIGHEST, agreement

_SHAPE = re.compile(r'\{"request": "([0-9a-f]+)", "score": N, "steps": \[S, \.\.\.\]\}')


@dataclass(frozen=True, slots=True)
class Stepping:
    """A request for a verdict on a response and its steps, as its text states it."""

    prompt: str
    steps: tuple[str, ...]
    number: str

    def reply(self, own_answer: str) -> str:
        """The verdict of a judge whose own answer is this."""
        words, place, scores = own_answer.split(), 0, list[int]()
        for step in self.steps:
            theirs = step.split()
            scores.append(HIGHEST * (bool(theirs) and words[place : place + len(theirs)] == theirs))
            place += len(theirs)
        whole = agreement(own_answer, "".join(self.steps))
        return json.dumps({"request": self.number, "score": whole, "steps": scores})


def read_stepping(text: str) -> Stepping | None:
    """What is to be judged; None where the text asks for something else."""
    texts = fenced_texts(text)
    shape = _SHAPE.search(text.rpartition(" ends>>>")[2])
    if shape is None or not {"prompt", "response"} <= texts.keys():
        return None
    return Stepping(texts["prompt"], tuple(json.loads(texts["response"])), shape[1])
