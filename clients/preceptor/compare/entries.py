"""What is run: each recipe under each seed, and its control where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from preceptor.errors import ConfigurationError
from preceptor.learner import Control, RunPlan
from preceptor.recipes import Recipe, compile_recipe, load_recipe

TENANT = "local"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What to hold against each other. The first recipe is the one that paired differences are taken from."""

    recipes: Sequence[Path]
    seeds: int
    control_seeds: int = 0  # the first so many seeds run with their scores permuted, too
    overrides: Sequence[str] = ()
    own: Mapping[Path, Sequence[str]] = field(default_factory=dict[Path, Sequence[str]])
    """Further overrides of single recipes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run."""

    recipe: Path
    seed: int
    control: Control = "none"
    overrides: Sequence[str] = ()

    @property
    def group(self) -> str:
        """What its seeds are averaged over: the file's name, and the control."""
        return self.recipe.stem if self.control == "none" else f"{self.recipe.stem}, scores permuted"

    @property
    def name(self) -> str:
        """Of its run."""
        return f"{self.recipe.stem}.{'permuted.' if self.control != 'none' else ''}seed-{self.seed}"

    def load(self) -> Recipe:
        """The recipe with what differs in it."""
        return load_recipe(self.recipe, (*self.overrides, f"schedule.seed={self.seed}"))

    def plan(self) -> RunPlan:
        """As a learner runs it."""
        recipe = self.load()
        if recipe.evaluation is None:
            raise ConfigurationError(
                f"{self.recipe} has no evaluation: there is nothing to compare",
                field="evaluation",
                value="null",
                hint="give the recipe an `evaluation` section",
            )
        compiled = compile_recipe(recipe)
        return RunPlan.of(self.name, TENANT, compiled, self.control)


def entries_of(asked: Comparison) -> Iterator[Entry]:
    """Seed by seed, so that a comparison that is stopped has every recipe under its first seeds.

    A recipe whose terms read neither a teacher nor an environment has no scores that could be permuted: it gets no control.
    """
    names = [recipe.stem for recipe in asked.recipes]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"two recipes are called {double[0]}", field="recipes", value=double[0], hint="give the files names of their own"
        )
    for seed in range(asked.seeds):
        for recipe in asked.recipes:
            plain = Entry(recipe, seed, overrides=(*asked.overrides, *asked.own.get(recipe, ())))
            yield plain
            if seed < asked.control_seeds and _reads_scores(plain.plan()):
                yield replace(plain, control="permute_scores")


def _reads_scores(plan: RunPlan) -> bool:
    taught = any(teacher.want or teacher.grading for teacher in plan.compiled.teachers.values())
    return taught or any(source.environment for source in plan.compiled.sources.values())
