"""What is graded: texts, a JSON object a line, {"prompt": ..., "response": ..., "reference": ..., "group": ..., "unsure_at": []}.

Only the first two are needed. `unsure_at` are bytes of the response (UTF-8) before places of doubt, the worst first: some graders
look there first. A further `id` is the caller's own name for a record and stands in its verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from preceptor import limits, wire
from preceptor.errors import InvalidArgument
from preceptor.json_lines import json_objects
from preceptor.types import GradeItem

TEXTS = ("prompt", "response", "reference", "group")
NEEDED = TEXTS[:2]
FIELDS = (*TEXTS, "unsure_at", "id")
U32 = 1 << 32


@dataclass(frozen=True, slots=True)
class Record:
    """One response to judge, and where it stood."""

    item: GradeItem
    source: str = "given"
    id: str | int | None = None


def read_records(lines: Iterable[str], source: str) -> list[Record]:
    """The records of a file, each named by its line and held to the protocol's limits."""
    return [_record(record, where) for where, record in json_objects(lines, source, FIELDS)]


def _record(values: Mapping[str, Any], where: str) -> Record:
    for name in NEEDED:
        if name not in values:
            raise InvalidArgument(f"{where} has no {name}", field=name, value="nothing", limit="text")
    prompt, response, reference, group = (_text(values.get(name, ""), name, where) for name in TEXTS)
    item = GradeItem(prompt, response, reference, group, _places(values.get("unsure_at", []), where))
    limits.check(wire.grade_item_to_proto(item), where)
    name = values.get("id")
    if name is not None and type(name) not in (str, int):
        raise InvalidArgument(f"{where}: id is neither text nor a whole number", field="id", value=name, limit="text, a number")
    return Record(item, where, name)


def _places(value: object, where: str) -> tuple[int, ...]:
    places: list[Any] = cast(list[Any], value) if isinstance(value, list) else [None]
    if not all(type(one) is int and 0 <= one < U32 for one in places):
        raise InvalidArgument(
            f"{where}: unsure_at is no list of bytes", field="unsure_at", value="something else", limit="[BYTE, ...]"
        )
    return tuple(places)


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{where}: {name} is no text", field=name, value=type(value).__name__, limit="text")
    return value
