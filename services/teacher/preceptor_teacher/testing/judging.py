"""How the stand-in plays a judge: it answers the prompt itself and compares, step by step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from preceptor_teacher.graders.fence import fenced_texts

HIGHEST = 10
COMPARING = ("better", "best")
_SHAPE = re.compile(r'\{"request": "([0-9a-f]+)", "(score|criteria|met|better|best)": (?:[NB]\}|N, "(critique)"|\[)')
_MOST = re.compile(r"^Write at most (\d+) criteria", re.MULTILINE)
_WORD = re.compile(r"Word (\d+) is (\S+)")


@dataclass(frozen=True, slots=True)
class Judging:
    """A request for a verdict, as its text states it."""

    prompt: str
    response: str
    number: str
    kind: str = "score"
    criteria: tuple[str, ...] = ()
    most_criteria: int = 0
    several: Mapping[str, str] = field(default_factory=dict[str, str])
    """Responses that are compared, by label."""

    def reply(self, own_answer: str) -> str:
        """The verdict of a judge whose own answer is this."""
        return json.dumps({"request": self.number, **_PLAYED[self.kind](self, own_answer)})


def read_judging(text: str) -> Judging | None:
    """What is to be judged; None where the text asks for something else. What is asked for stands behind the last fence."""
    texts = fenced_texts(text)
    shape = _SHAPE.search(text.rpartition(" ends>>>")[2])
    if shape is None or "prompt" not in texts:
        return None
    kind, most = shape[3] or shape[2], _MOST.search(text)
    several = {label: one for label, one in texts.items() if kind in COMPARING and label not in ("prompt", "reference")}
    if (kind != "criteria" and not several and "response" not in texts) or (kind == "criteria" and most is None):
        return None
    criteria = tuple(json.loads(texts["criteria"])) if kind == "met" else ()
    return Judging(texts["prompt"], texts.get("response", ""), shape[1], kind, criteria, int(most[1]) if most else 0, several)


def agreement(own: str, theirs: str) -> int:
    """0 to 10: how many steps (words) two texts have in the same place, of those of the longer one."""
    ours, judged = own.split(), theirs.split()
    same = sum(a == b for a, b in zip(ours, judged, strict=False))
    return round(HIGHEST * same / max(len(ours), len(judged), 1))


def _score(judging: Judging, own: str) -> dict[str, object]:
    return {"score": agreement(own, judging.response)}


def _critique(judging: Judging, own: str) -> dict[str, object]:
    """The first step that is another."""
    ours, judged = own.split(), judging.response.split()
    wrong = [n for n, word in enumerate(ours) if judged[n : n + 1] != [word]]
    text = f"Word {wrong[0] + 1} should be {ours[wrong[0]]}."[:200] if wrong else "Nothing is wrong."
    return {**_score(judging, own), "critique": text}


def _criteria(judging: Judging, own: str) -> dict[str, object]:
    """One for each step."""
    steps = list(enumerate(own.split(), 1))[: judging.most_criteria]
    return {"criteria": [{"text": f"Word {n} is {word}"[:400], "weight": 1} for n, word in steps]}


def _met(judging: Judging, own: str) -> dict[str, object]:
    return {"met": [_meets(one, judging.response, own) for one in judging.criteria]}


def _meets(criterion: str, response: str, own: str) -> bool:
    """Of its own criteria what they say; criteria of other people are met by its own answer alone."""
    word = _WORD.fullmatch(criterion)
    if word is None:
        return response.split() == own.split()
    place = int(word[1])
    return response.split()[place - 1 : place] == [word[2]]


def _best(judging: Judging, own: str) -> dict[str, object]:
    """The one that agrees most, the first of several."""
    return {"best": max(judging.several, key=lambda label: agreement(own, judging.several[label]))}


def _better(judging: Judging, own: str) -> dict[str, object]:
    scores = {label: agreement(own, text) for label, text in judging.several.items()}
    return {"better": "neither"} if len(set(scores.values())) == 1 else {"better": max(scores, key=scores.__getitem__)}


_PLAYED: dict[str, Callable[[Judging, str], dict[str, object]]] = {
    "score": _score,
    "critique": _critique,
    "criteria": _criteria,
    "met": _met,
    "better": _better,
    "best": _best,
}
