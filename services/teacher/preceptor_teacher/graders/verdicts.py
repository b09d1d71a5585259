"""The one shape in which a judge may answer, and the strict reading of it.

The reply is one JSON object with exactly two members: the request's own number, which is drawn at random and which the graded
text cannot know, and the score. A reply that copies a verdict out of the graded text is therefore no verdict.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

LOWEST, HIGHEST = 0, 10
MAX_REPLY_CHARS = 2000
NUMBER_BYTES = 8


class NoVerdict(Exception):
    """Why a reply cannot be read as a verdict."""


def schema_of(number: str) -> dict[str, Any]:
    """The shape as a JSON schema."""
    return {
        "type": "object",
        "properties": {
            "request": {"type": "string", "const": number},
            "score": {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST},
        },
        "required": ["request", "score"],
        "additionalProperties": False,
    }


def read_score(text: str, number: str) -> int:
    """The score of the verdict that the whole text is; `NoVerdict` for anything else."""
    if len(text) > MAX_REPLY_CHARS:
        raise NoVerdict("the reply is too long for a verdict")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise NoVerdict("the reply is not one JSON object") from None
    if not isinstance(value, dict) or value.keys() != {"request", "score"}:
        raise NoVerdict("the reply has other members than request and score")
    if value["request"] != number:
        raise NoVerdict("the reply is not about this request")
    score = value["score"]
    if type(score) is not int or not LOWEST <= score <= HIGHEST:
        raise NoVerdict(f"the score is not an integer from {LOWEST} to {HIGHEST}")
    return score


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NoVerdict("the reply gives a member twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise NoVerdict(f"the reply has the number {name}")
