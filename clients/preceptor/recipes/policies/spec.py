"""What a recipe may know of a behaviour policy without running it: its parameters, and whether a teacher stands in its loop."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.recipes.ops.spec import NoParams, Params


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One policy: how the next token of a rollout comes about."""

    name: str
    summary: str
    params: type[Params] = NoParams
    asks_teacher: bool = True


__all__ = ["NoParams", "Params", "PolicySpec"]
