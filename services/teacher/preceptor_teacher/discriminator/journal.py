"""The groups that were scored since a checkpoint, in order: written, durable, before a score is told or a weight moves.

    <sha256 of the JSON> <one JSON object>

Whoever dies in the middle of a line told nobody of it: such a last line is cut off. Any other line that is not what its digest
says is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preceptor.errors import Corrupt
from preceptor_serving.durable import sync_folder, told_when_full


def append(path: Path, values: dict[str, Any]) -> None:
    """One line more; durable when it returns."""
    body = json.dumps(values)
    is_new = not path.exists()
    with told_when_full(path):
        with path.open("ab") as file:
            file.write(f"{_digest(body)} {body}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(path.parent)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every line; a torn last one is removed from the file."""
    lines = path.read_bytes().splitlines(keepends=True)
    for place, line in enumerate(lines):
        if line.endswith(b"\n") and (body := _body(line)) is not None:
            yield json.loads(body)
        elif place == len(lines) - 1 and not line.endswith(b"\n"):
            os.truncate(path, path.stat().st_size - len(line))
        else:
            raise Corrupt(f"{path}: line {place + 1} has other content than its digest says", field=path.name, value=place + 1)


def _body(line: bytes) -> str | None:
    """What the line says, or None where it does not bear its digest."""
    try:
        digest, _, body = line.decode().rstrip("\n").partition(" ")
    except UnicodeDecodeError:
        return None
    return body if digest == _digest(body) else None


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
