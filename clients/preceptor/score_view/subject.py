"""What is scored: token ids, and what the student itself thought of them where that is known.

Records come one JSON object a line: {"context": [ids], "response": [ids], "logprob_policy": [numbers, null, "-inf"]}, the last
one only where it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from preceptor.errors import InvalidArgument
from preceptor.json_lines import json_objects
from preceptor.types import Sequence, as_ids
from preceptor.types.scores import F32

FIELDS = ("context", "response", "logprob_policy")


@dataclass(frozen=True, slots=True)
class Subject:
    """One response after its prompt. `student` is a log-probability for each response token, NaN where it is missing."""

    sequence: Sequence
    student: F32 | None = None
    source: str = "given"


def read_records(lines: Iterable[str], source: str) -> list[Subject]:
    """The subjects of a file, each named by its line; empty lines are skipped."""
    return [_subject(record, where) for where, record in json_objects(lines, source, FIELDS)]


def _subject(record: Mapping[str, Any], where: str) -> Subject:
    context, response = (_ids(record, name, where) for name in ("context", "response"))
    if not len(context):
        raise InvalidArgument(
            f"{where}: a response without context: nothing predicts its first token",
            field="context",
            value="0 ids",
            limit=">= 1 id",
        )
    return Subject(Sequence.of(context, response), _logprobs(record, len(response), where), where)


def _ids(record: Mapping[str, Any], name: str, where: str) -> Any:
    values = record.get(name)
    if not isinstance(values, list) or any(type(one) is not int for one in cast(list[Any], values)):
        raise InvalidArgument(f"{where}: {name} is no list of ids", field=name, value=where, limit="a list of whole numbers")
    return as_ids(cast(list[int], values), name)


def _logprobs(record: Mapping[str, Any], count: int, where: str) -> F32 | None:
    values: Any = record.get("logprob_policy")
    if values is None:
        return None
    if not isinstance(values, list) or len(cast(list[Any], values)) != count:
        told = f"{len(cast(list[Any], values))} values" if isinstance(values, list) else type(values).__name__
        raise InvalidArgument(
            f"{where}: logprob_policy has {told} for {count} tokens", field="logprob_policy", value=told, limit=f"{count} values"
        )
    return np.array([_number(one, where) for one in cast(list[Any], values)], np.float32)


def _number(value: object, where: str) -> float:
    """JSON's null is a missing value and "-inf" probability zero, as on every door."""
    if value is None:
        return float("nan")
    if value == "-inf":
        return float("-inf")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 0:
        limit = 'a number <= 0, null or "-inf"'
        raise InvalidArgument(f"{where}: no log-probability: {value!r}", field="logprob_policy", value=value, limit=limit)
    return float(value)
