"""Numbers that may change with the step: a plain number, or a ramp that the student evaluates at each step.

    weight: 0.5
    weight: {schedule: linear, start: 1.0, end: 0.0, steps: 100}

A recipe keeps the ramp, the compiled objective carries it, and `at_step` is the only place that turns it into a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Ramp(BaseModel):
    """A number that moves from `start` at step 1 to `end` at step `steps` + 1 and stays there."""

    model_config = FROZEN

    schedule: Literal["linear", "cosine"]
    """linear: equal changes; cosine: slow at both ends."""

    start: float
    """The value at step 1."""

    end: float
    """The value from step `steps` + 1 on."""

    steps: int = Field(ge=1)
    """How many steps the way takes."""


def _member(value: object) -> str:
    return "ramp" if isinstance(value, dict | Ramp) else "number"


Number = Annotated[Annotated[float, Tag("number")] | Annotated[Ramp, Tag("ramp")], Discriminator(_member)]

T = TypeVar("T", bound=BaseModel)


def ends(number: Number) -> tuple[float, float]:
    """The extreme values: those of a ramp, or the number twice."""
    return (number.start, number.end) if isinstance(number, Ramp) else (number, number)


def always(number: Number, value: float) -> bool:
    """Whether it is this value at every step."""
    return ends(number) == (value, value)


def at_step(number: Number, step: int) -> float:
    """The value of a number at a step; steps count from 1."""
    if not isinstance(number, Ramp):
        return number
    way = min(max(step - 1, 0) / number.steps, 1.0)
    share = way if number.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * way))
    return number.start + (number.end - number.start) * share


def plain(number: Number) -> float:
    """A number that `params_at_step` has been through."""
    if isinstance(number, Ramp):
        raise TypeError("an op was run with a ramp for a parameter; params_at_step turns it into a number")
    return number


def params_at_step(params: T, step: int) -> T:
    """The parameters of an op with every ramp replaced by its value at the step."""
    moving = {
        name: at_step(value, step) for name in type(params).model_fields if isinstance(value := getattr(params, name), Ramp)
    }
    return params.model_copy(update=moving)


def within(
    *, ge: float = -math.inf, gt: float = -math.inf, le: float = math.inf, lt: float = math.inf
) -> Callable[[Number], Number]:
    """A validator that holds a number, and both ends of a ramp, to bounds."""

    def check(number: Number) -> Number:
        for value in ends(number):
            if not (ge <= value <= le and gt < value < lt):
                raise ValueError(f"{value:g} is out of bounds: {_told(ge, gt, le, lt)}")
        return number

    return check


def _told(ge: float, gt: float, le: float, lt: float) -> str:
    bounds = ((">=", ge), (">", gt), ("<=", le), ("<", lt))
    return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))


Positive = Annotated[Number, AfterValidator(within(gt=0.0))]
AtLeastOne = Annotated[Number, AfterValidator(within(ge=1.0))]
NotNegative = Annotated[Number, AfterValidator(within(ge=0.0))]
OpenUnit = Annotated[Number, AfterValidator(within(gt=0.0, lt=1.0))]
