"""The one shape in which a judge may answer, and the strict reading of it.

The reply is one JSON object with exactly the members that were asked for: the request's own number, which is drawn at random and
which the graded text cannot know, and the verdict. A reply that copies a verdict out of the graded text is therefore no verdict.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

LOWEST, HIGHEST = 0, 10
MAX_REPLY_CHARS = 2000
NUMBER_BYTES = 8


class NoVerdict(Exception):
    """Why a reply cannot be read as a verdict."""


def schema_of(number: str) -> dict[str, Any]:
    """The shape as a JSON schema."""
    return schema_with(number, score={"type": "integer", "minimum": LOWEST, "maximum": HIGHEST})


def schema_with(number: str, **members: Mapping[str, Any]) -> dict[str, Any]:
    """An object that carries the request's number beside these members, all of them needed and no others."""
    return {
        "type": "object",
        "properties": {"request": {"type": "string", "const": number}, **members},
        "required": ["request", *members],
        "additionalProperties": False,
    }


def read_score(text: str, number: str) -> int:
    """The score of the verdict that the whole text is; `NoVerdict` for anything else."""
    return whole_number(read_answer(text, number, ("score",))["score"], "score", LOWEST, HIGHEST)


def read_answer(text: str, number: str, members: Sequence[str], most_chars: int = MAX_REPLY_CHARS) -> dict[str, Any]:
    """The one object that the whole text is: about this request, with these members and no others."""
    if len(text) > most_chars:
        raise NoVerdict("the reply is too long for a verdict")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise NoVerdict("the reply is not one JSON object") from None
    if not isinstance(value, dict) or value.keys() != {"request", *members}:
        raise NoVerdict(f"the reply has other members than request and {', '.join(members)}")
    if value["request"] != number:
        raise NoVerdict("the reply is not about this request")
    return value


def whole_number(value: object, name: str, lowest: int, highest: int) -> int:
    """The value, where it is an integer within these bounds."""
    if type(value) is not int or not lowest <= value <= highest:
        raise NoVerdict(f"the {name} is not an integer from {lowest} to {highest}")
    return value


def one_of(value: object, name: str, allowed: Collection[str]) -> str:
    """The value, where it is one of these texts."""
    if not isinstance(value, str) or value not in tuple(allowed):
        raise NoVerdict(f"the {name} is not {', '.join(allowed)}")
    return value


def words(value: object, name: str, most_chars: int) -> str:
    """The value, where it is a text of that length that says something and can be sent on."""
    if not isinstance(value, str) or not value.strip() or len(value) > most_chars:
        raise NoVerdict(f"the {name} is not a text of 1 to {most_chars} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise NoVerdict(f"the {name} has half a character")
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NoVerdict("the reply gives a member twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise NoVerdict(f"the reply has the number {name}")
