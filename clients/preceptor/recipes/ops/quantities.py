"""Numbers of a row that weights and gates may go by, each with the signals that it can be read from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from preceptor.recipes.ops.spec import Params
from preceptor.recipes.schedules import Number

Quantity = Literal[
    "student_entropy", "student_surprisal", "teacher_entropy", "teacher_surprisal", "log_ratio", "divergence", "overlap"
]

READS: dict[str, frozenset[str]] = {
    "student_entropy": frozenset(),  # nats of the student's own distribution
    "student_surprisal": frozenset(),  # minus log student of the token
    "teacher_entropy": frozenset({"entropy"}),
    "teacher_surprisal": frozenset({"sampled"}),  # minus log teacher of the token
    "log_ratio": frozenset({"sampled"}),  # log teacher - log student of the token
    "divergence": frozenset({"support"}),  # KL(student || teacher) on support and tail
    "overlap": frozenset({"support"}),  # share of the teacher's top tokens among as many of the student's
}
"""Quantity -> the signals that give it; none: it is the student's own."""


class OfQuantity(Params):
    """Parameters of an op that goes by a quantity of the row; the quantity is detached."""

    of: Quantity
    """Which quantity."""


def reads(params: OfQuantity) -> frozenset[str]:
    return READS[params.of]


class Bounds(Params):
    """An interval, both ends included; an end that is unset is open."""

    at_least: Number | None = None
    """Smallest value inside."""

    at_most: Number | None = None
    """Largest value inside."""

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            raise ValueError("without at_least or at_most everything is inside")
        if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
            raise ValueError(f"nothing lies between {low:g} and {high:g}")
        return self


class FactorWithin(Bounds, OfQuantity):
    """One factor inside the interval, another outside."""

    inside: Number = 1.0
    """Factor where the quantity is within the bounds."""

    outside: Number = 0.0
    """Factor everywhere else."""

    @model_validator(mode="after")
    def _tells_them_apart(self) -> Self:
        if self.inside == self.outside:
            raise ValueError("inside and outside are the same factor, so the bounds would change nothing")
        return self
