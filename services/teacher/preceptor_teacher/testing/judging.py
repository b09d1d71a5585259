"""How the stand-in plays a judge: it answers the prompt itself and compares, step by step."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from preceptor_teacher.graders.fence import fenced_texts

HIGHEST = 10
_SHAPE = re.compile(r'\{"request": "([0-9a-f]+)", "score": N\}')


@dataclass(frozen=True, slots=True)
class Judging:
    """A request for a verdict, as its text states it."""

    prompt: str
    response: str
    number: str

    def reply(self, own_answer: str) -> str:
        """The verdict of a judge whose own answer is this."""
        return json.dumps({"request": self.number, "score": agreement(own_answer, self.response)})


def read_judging(text: str) -> Judging | None:
    """What is to be judged; None where the text asks for something else. What is asked for stands behind the last fence."""
    texts = fenced_texts(text)
    shape = _SHAPE.search(text.rpartition(" ends>>>")[2])
    if shape is None or not {"prompt", "response"} <= texts.keys():
        return None
    return Judging(texts["prompt"], texts["response"], shape[1])


def agreement(own: str, theirs: str) -> int:
    """0 to 10: how many steps (words) two texts have in the same place, of those of the longer one."""
    ours, judged = own.split(), theirs.split()
    same = sum(a == b for a, b in zip(ours, judged, strict=False))
    return round(HIGHEST * same / max(len(ours), len(judged), 1))
