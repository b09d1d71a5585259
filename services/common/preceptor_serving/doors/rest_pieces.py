"""JSON replies made piece by piece, off the event loop: one of a hundred megabytes neither stands in memory nor stops others.

    {"choices": [{"prompt_logprobs": Pieces(text of one position after the other)}]}

What is small goes out as one body with its length; the rest is streamed, in blocks, while it is made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response, StreamingResponse

from preceptor_serving.doors.rest_json import JSON_TYPE

BLOCK_CHARS = 256 << 10


@dataclass(frozen=True, slots=True)
class Pieces:
    """A JSON value as pieces of its text, made when they are asked for."""

    text: Iterable[str]


def json_pieces(value: Any) -> Iterator[str]:
    """The text of a value that may have `Pieces` anywhere inside it."""
    match value:
        case Pieces():
            yield from value.text
        case dict():
            yield from _joined("{", ((f"{json.dumps(key)}:", inner) for key, inner in value.items()), "}")
        case list() if any(isinstance(inner, dict | list | Pieces) for inner in value):
            yield from _joined("[", (("", inner) for inner in value), "]")
        case _:
            yield json.dumps(value, separators=(",", ":"), allow_nan=False)


def listed(values: Iterable[Any]) -> Pieces:
    """A JSON list whose values are made one by one, when they are sent."""
    return Pieces(_joined("[", (("", value) for value in values), "]"))


def _joined(opening: str, entries: Iterable[tuple[str, Any]], closing: str) -> Iterator[str]:
    yield opening
    for index, (name, inner) in enumerate(entries):
        yield f"{',' if index else ''}{name}"
        yield from json_pieces(inner)
    yield closing


async def json_reply(value: Any) -> Response:
    """The reply with this value."""
    pieces = json_pieces(value)
    first, more = await asyncio.to_thread(_block, pieces)
    if not more:
        return Response(first, media_type=JSON_TYPE)
    return StreamingResponse(_blocks(first, pieces), media_type=JSON_TYPE)


async def _blocks(first: bytes, pieces: Iterator[str]) -> AsyncIterator[bytes]:
    yield first
    more = True
    while more:
        block, more = await asyncio.to_thread(_block, pieces)
        yield block


def _block(pieces: Iterator[str]) -> tuple[bytes, bool]:
    """The next block, and whether there is more to come."""
    parts: list[str] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= BLOCK_CHARS:
            return "".join(parts).encode(), True
    return "".join(parts).encode(), False
