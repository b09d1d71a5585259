"""A figure that lies between two bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends belong to it."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        """Of figures that are not negative."""
        by = other if isinstance(other, Range) else Range(other, other)
        return Range(self.low * by.low, self.high * by.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


NOTHING = Range(0, 0)


def exactly(value: float) -> Range:
    """A figure that is known."""
    return Range(value, value)
