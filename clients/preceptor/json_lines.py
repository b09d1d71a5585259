"""JSON objects, one a line, as people hand them to a command: in a file, or on stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from preceptor.errors import InvalidArgument, NotFound
from preceptor.suggest import did_you_mean

STDIN = "-"


@contextmanager
def lines_of(name: str, field: str) -> Generator[tuple[Iterable[str], str]]:
    """The lines of a file, or of stdin for `-`, and what errors call it."""
    if name == STDIN:
        yield sys.stdin, "stdin"
        return
    try:
        with Path(name).open(encoding="utf-8") as file:
            yield file, name
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{name} cannot be read: {error}", field=field, value=name) from None


def json_objects(lines: Iterable[str], source: str, known: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every object with its place, `SOURCE:LINE`; empty lines are skipped, and fields that are not `known` refused."""
    numbered = ((f"{source}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())
    found = [(where, _object(line, where, known)) for where, line in numbered]
    if not found:
        raise InvalidArgument(f"{source} has no records", field="from", value=source, limit=">= 1 record")
    return found


def _object(line: str, where: str, known: Sequence[str]) -> Mapping[str, Any]:
    try:
        record: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}: no JSON: {error}", field="from", value=where, limit="a JSON object a line") from None
    if not isinstance(record, dict):
        raise InvalidArgument(f"{where} is no object", field="from", value=type(record).__name__, limit="a JSON object a line")
    found = cast(dict[str, Any], record)
    for name in found:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InvalidArgument(f"{where} has a field {name!r}", field=name, value=name, limit=", ".join(known), hint=hint)
    return found
