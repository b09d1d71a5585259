"""Where a response may be cut into steps: behind its words, or behind its lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Unit = Literal["words", "lines"]
_UNITS: dict[Unit, re.Pattern[str]] = {"words": re.compile(r"\s*\S+"), "lines": re.compile(r"\s*\S[^\n]*")}
"""Spaces and empty lines before a unit are part of it; those at the end of the response are part of none."""


def unit_ends(response: str, unit: Unit) -> list[int]:
    """Where each unit ends, in characters."""
    return [found.end() for found in _UNITS[unit].finditer(response)]


def step_ends(response: str, unit: Unit, most: int) -> list[int]:
    """Ends of at most so many steps that are all of the response: several units in each where there are more."""
    ends = unit_ends(response, unit)
    size = -(-len(ends) // most) if ends else 1
    return [*ends[size - 1 : -1 : size], len(response)]


def bytes_to(response: str, ends: Iterable[int]) -> list[int]:
    """UTF-8 bytes of the response up to each of these characters."""
    found, at, total = [], 0, 0
    for end in ends:
        total += len(response[at:end].encode("utf-8", errors="replace"))
        found.append(total)
        at = end
    return found
