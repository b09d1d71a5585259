"""Closed sets as they arrive: a number that this version does not know is refused by name."""

from __future__ import annotations

from typing import TypeVar

from preceptor.codec import WireEnum
from preceptor.errors import Corrupt, PreceptorError

E = TypeVar("E", bound=WireEnum)


def known(kind: type[E], number: int, field: str, error: type[PreceptorError] = Corrupt) -> E:
    """The member of that number. Requests are refused as `InvalidArgument`; what a peer stored or answered is `Corrupt`."""
    try:
        return kind(number)
    except ValueError:
        names = " | ".join(f"{member.value} ({member.name})" for member in kind)
        hint = "the peer may be newer than this version"
        raise error(f"{field} {number} is unknown", field=field, value=number, limit=names, hint=hint) from None
