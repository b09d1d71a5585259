"""What the engine of the rollout service cannot draw, where it is known which one that is."""

from __future__ import annotations

from collections.abc import Iterator

from preceptor.recipes.behaviour import GUIDED_ENGINES, resolve_policy
from preceptor.recipes.environments import TURN_ENGINES
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding
from preceptor.recipes.schema import Recipe


def drawable(recipe: Recipe, rollout_engine: str) -> Iterator[Finding]:
    """What this engine cannot draw of the recipe."""
    yield from _guided(recipe, rollout_engine)
    yield from _takes_turns(recipe, rollout_engine)


def _takes_turns(recipe: Recipe, rollout_engine: str) -> Iterator[Finding]:
    """Behind an answer of the environment the draws of a rollout go on."""
    for name, source in recipe.sources.items():
        if source.environment is not None and rollout_engine not in TURN_ENGINES:
            why = f"the {rollout_engine} engine of the rollout service draws one turn, and an environment answers between turns"
            yield Finding(
                Code.ENGINE_TAKES_NO_TURNS,
                f"sources.{name}.environment",
                why,
                f"start it with another engine: {', '.join(TURN_ENGINES)}",
            )


def _guided(recipe: Recipe, rollout_engine: str) -> Iterator[Finding]:
    """A policy that asks a teacher between two tokens needs an engine that waits for it."""
    if rollout_engine in GUIDED_ENGINES:
        return
    for name, source in recipe.sources.items():
        if source.policy is None:
            continue
        spec, _ = resolve_policy(source.policy, f"sources.{name}.policy")
        if spec.asks_teacher:
            yield Finding(
                Code.ENGINE_ASKS_NO_TEACHER,
                f"sources.{name}.policy",
                f"the {rollout_engine} engine of the rollout service runs no policy that asks a teacher while it draws, "
                f"as {spec.name} does",
                f"start it with another engine: {', '.join(GUIDED_ENGINES)}",
            )
