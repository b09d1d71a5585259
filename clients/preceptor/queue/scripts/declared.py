"""Which keys a step touches, said beside it and held to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from preceptor.errors import Internal
from preceptor.queue.keys import kind_of
from preceptor.queue.space import Slot

P = ParamSpec("P")
R = TypeVar("R")

SCRIPTS: dict[str, frozenset[str]] = {}
"""Name of each step -> the kinds of keys that it may touch."""


def script(*kinds: str) -> Callable[[Callable[Concatenate[Slot, P], R]], Callable[Concatenate[Slot, P], R]]:
    """Declare a step. Touching another kind of key is a defect and raises `Internal`."""
    declared = frozenset(kinds)

    def declare(step: Callable[Concatenate[Slot, P], R]) -> Callable[Concatenate[Slot, P], R]:
        SCRIPTS[step.__name__] = declared

        @wraps(step)
        def run(slot: Slot, /, *args: P.args, **kwargs: P.kwargs) -> R:
            result = step(slot, *args, **kwargs)
            undeclared = {kind_of(key) for key in slot.touched} - declared
            if undeclared:
                raise Internal(f"{step.__name__} touched keys that it does not declare", field="keys", value=sorted(undeclared))
            return result

        return run

    return declare
