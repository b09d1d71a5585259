"""Bytes that stand under keys, read as messages: whoever may write the keys may have written anything."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from preceptor.errors import Corrupt

M = TypeVar("M", bound=Message)


def stored(kind: type[M], raw: bytes, field: str) -> M:
    """The message, or `Corrupt` that names what could not be read."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        name = kind.DESCRIPTOR.name
        raise Corrupt(f"what is stored as {field} is no {name}", field=field, value=f"{len(raw)} bytes", limit=name) from None
