"""What the reader has learned to read instead of a bare prompt: the views of the recipes whose teacher is a copy of the student.

- the answer (opsd, sdft): 793+297=1090
- the rule (opcd): From the ones up, with the carry: 793+297
- a right response of the group (sdpo): 793+297=3+7+0=10 9+9+1=19 7+2+1=10 1090
- a judge's critique (sdpo-critique): 793+297=Word 3 should be 7+2+1=10.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from examples.tiny.task import Problem


def _critique(problem: Problem, draw: random.Random) -> str:
    """What the stand-in judge says of a response whose first mistake is here."""
    number, word = draw.choice(list(enumerate(problem.worked.split(), 1)))
    return f"{problem.prompt}=Word {number} should be {word}."


VIEWS: Mapping[str, Callable[[Problem, random.Random], str]] = {
    "answer": lambda problem, _: f"{problem.prompt}={problem.answer}",
    "rule": lambda problem, _: f"From the ones up, with the carry: {problem.prompt}",
    "sibling": lambda problem, _: f"{problem.prompt}={problem.worked}",
    "critique": _critique,
}
