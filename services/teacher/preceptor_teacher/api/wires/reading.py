"""Reading replies that may be anything: every step either finds what it expects or says that the provider failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from preceptor.errors import Unavailable

Body = Mapping[str, Any]


def json_object(data: bytes) -> Body:
    """The JSON object that these bytes are."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Unavailable("the provider's reply is no JSON") from None
    if not isinstance(value, dict):
        raise Unavailable("the provider's reply is no JSON object")
    return value


def count(within: object, *names: str) -> int:
    """A count inside nested objects; 0 where there is none."""
    for name in names:
        within = within.get(name) if isinstance(within, dict) else None
    return within if isinstance(within, int) and not isinstance(within, bool) and within >= 0 else 0


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""
