"""What a run will do, decided before anything is asked of a service: pure functions of the recipe and the data.

A step has an `index` from 0. Its rollouts carry the index, because they are drawn from weights that have seen `index` steps; its
batch makes step `index + 1` of the student. Draws are keyed by the index, so they are those of a loop that counts from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from preceptor.errors import ConfigurationError
from preceptor.journal import RolloutKey
from preceptor.learner.data import (
    EvaluationItem,
    evaluation_items,
    training_answers,
    training_prompts,
    training_tasks,
    training_views,
)
from preceptor.recipes import STUDENT, CompiledRecipe, SourcePlan, TeacherPlan
from preceptor.types import RolloutId

Control = Literal["none", "permute_scores"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A source and its place among the samples of a prompt: all sources of a step answer the same prompts."""

    source: SourcePlan
    first_sample: int
    scorers: tuple[TeacherPlan, ...]
    graders: tuple[TeacherPlan, ...]

    @property
    def end_sample(self) -> int:
        return self.first_sample + self.source.samples_per_prompt

    @property
    def readers(self) -> tuple[TeacherPlan, ...]:
        """Scorers that read a rollout while it is drawn."""
        return tuple(scorer for scorer in self.scorers if scorer.feedback is None)

    @property
    def rereaders(self) -> tuple[TeacherPlan, ...]:
        """Scorers whose view shows finished rollouts."""
        return tuple(scorer for scorer in self.scorers if scorer.feedback is not None)

    @property
    def by_student(self) -> bool:
        return self.source.writer == STUDENT


@dataclass(frozen=True)
class RunPlan:
    """One training run. `tenant` is whose key the services see; the job of all its work is the run's name. `views`: what teachers
    read instead of each prompt, where the recipe says so."""

    run: str
    tenant: str
    compiled: CompiledRecipe
    prompts: tuple[str, ...]
    evaluation: tuple[EvaluationItem, ...] = ()
    control: Control = "none"
    answers: tuple[str, ...] = ()
    """One for each prompt, for graders; or none at all."""

    views: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """What each teacher with a view reads instead of each prompt."""

    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """What the environment of each source that has one is told of each prompt, as JSON."""

    @classmethod
    def of(cls, run: str, tenant: str, compiled: CompiledRecipe, control: Control = "none") -> RunPlan:
        """The plan of a recipe, its data read from the files that it names."""
        recipe = compiled.recipe
        items = evaluation_items(recipe)
        answers, views, tasks = training_answers(recipe), training_views(recipe), training_tasks(recipe)
        return cls(run, tenant, compiled, training_prompts(recipe), items, control, answers, views, tasks)

    def __post_init__(self) -> None:
        if self.answers and len(self.answers) != len(self.prompts):
            raise ConfigurationError(
                "not every prompt has an answer", field="data", value=len(self.answers), limit=f"{len(self.prompts)} prompts"
            )
        if self.per_step > len(self.prompts):
            raise ConfigurationError(
                "a step takes more prompts than the data has",
                field="schedule.prompts_per_step",
                value=self.per_step,
                limit=f"{len(self.prompts)} prompts",
            )
        self._check_staleness()
        self._check_views()
        self._check_tasks()
        every = self.compiled.recipe.evaluation.every_steps if self.compiled.recipe.evaluation else self.publish_every
        if every % self.publish_every:
            raise ConfigurationError(
                "an evaluation would ask weights that are not published",
                field="evaluation.every_steps",
                value=every,
                limit=f"a multiple of schedule.publish_every_steps ({self.publish_every})",
            )

    def _check_views(self) -> None:
        for name, teacher in self.compiled.teachers.items():
            if teacher.view is not None and len(self.views.get(name, ())) != len(self.prompts):
                raise ConfigurationError(
                    f"teacher {name} reads a view, and not every prompt has one",
                    field=f"teachers.{name}.view",
                    value=len(self.views.get(name, ())),
                    limit=len(self.prompts),
                )

    def _check_tasks(self) -> None:
        for name, source in self.compiled.sources.items():
            if source.environment is not None and len(self.tasks.get(name, ())) != len(self.prompts):
                raise ConfigurationError(
                    f"the rollouts of {name} have an environment, and not every prompt has a task",
                    field=f"sources.{name}.environment",
                    value=len(self.tasks.get(name, ())),
                    limit=len(self.prompts),
                )

    def _check_staleness(self) -> None:
        schedule = self.compiled.recipe.schedule
        refusals = (
            (self.deterministic and self.ahead > 0, "deterministic", True, "false: arrival decides which weights draw"),
            (self.ahead < self.staleness, "ahead_steps", self.ahead, f"at least schedule.staleness ({self.staleness})"),
            (
                schedule.stale_weight > 0 and self.ahead <= self.staleness,
                "stale_weight",
                schedule.stale_weight,
                "0, or ahead_steps above staleness: nothing gets older than the bound here",
            ),
            (
                schedule.failed_rollouts_per_step >= self.per_step * self.samples,
                "failed_rollouts_per_step",
                schedule.failed_rollouts_per_step,
                f"fewer than the rollouts of a step ({self.per_step * self.samples})",
            ),
            (
                schedule.early_stop is not None and not self.evaluation,
                "early_stop",
                "set",
                "a recipe with an evaluation: without one no accuracy is known",
            ),
        )
        for is_refused, name, value, limit in refusals:
            if is_refused:
                raise ConfigurationError(
                    f"schedule.{name} does not fit the rest of the schedule: {limit}",
                    field=f"schedule.{name}",
                    value=value,
                    limit=limit,
                )

    # ---------------------------------------------------------------- numbers

    @property
    def steps(self) -> int:
        return self.compiled.recipe.schedule.steps

    @property
    def per_step(self) -> int:
        return self.compiled.recipe.schedule.prompts_per_step

    @property
    def publish_every(self) -> int:
        return self.compiled.recipe.schedule.publish_every_steps

    @property
    def seed(self) -> int:
        return self.compiled.recipe.schedule.seed

    @property
    def deterministic(self) -> bool:
        return self.compiled.recipe.schedule.deterministic

    @property
    def staleness(self) -> int:
        return self.compiled.recipe.schedule.staleness

    @property
    def ahead(self) -> int:
        """How many steps drawing may run ahead of training."""
        return self.compiled.recipe.schedule.ahead

    @property
    def stale_weight(self) -> float:
        return self.compiled.recipe.schedule.stale_weight

    def answer_to(self, prompt: int) -> str:
        """What graders are told to compare with; nothing where the data has no answers."""
        return self.answers[prompt] if self.answers else ""

    def task_of(self, source: str, prompt: int) -> str:
        """What the environment of a source is told of a prompt; nothing where it has none."""
        return self.tasks[source][prompt] if source in self.tasks else ""

    def weights_for(self, index: int, end: int | None = None) -> int:
        """The step whose weights draw the rollouts of this one where nothing is stale; the end of the run always publishes."""
        is_end = index >= (self.steps if end is None else end)
        return index if is_end else index - index % self.publish_every

    def age(self, index: int, weight_step: int) -> int:
        """How many published versions lie between these weights and those that a strictly on-policy run would draw from."""
        return max(0, -((weight_step - self.weights_for(index)) // self.publish_every))

    def oldest_weights(self, index: int) -> int:
        """No rollout of a step is drawn from weights of an earlier step than this."""
        return max(0, self.weights_for(index) - self.ahead * self.publish_every)

    def is_evaluated(self, index: int, end: int | None = None) -> bool:
        """Whether the weights that have seen `index` steps are evaluated."""
        if self.compiled.recipe.evaluation is None:
            return False
        return index % self.compiled.recipe.evaluation.every_steps == 0 or index >= (self.steps if end is None else end)

    def is_durable(self, step: int, end: int | None = None) -> bool:
        """Whether the student is asked to keep this step."""
        return step % self.compiled.recipe.schedule.checkpoint_every_steps == 0 or step >= (self.steps if end is None else end)

    # ---------------------------------------------------------------- rollouts

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The sources, each with its samples."""
        slots: list[Slot] = []
        first = 0
        for source in self.compiled.sources.values():
            asked = [plan for plan in self.compiled.teachers.values() if source.name in plan.on]
            scorers = tuple(plan for plan in asked if plan.want)
            graders = tuple(plan for plan in asked if plan.grading)
            slots.append(Slot(source, first, scorers, graders))
            first = slots[-1].end_sample
        return tuple(slots)

    @property
    def samples(self) -> int:
        """Rollouts of one prompt, over all sources."""
        return self.slots[-1].end_sample

    def slot_of(self, sample: int) -> Slot:
        """The source that a sample belongs to."""
        return next(slot for slot in self.slots if slot.first_sample <= sample < slot.end_sample)

    def prompts_of(self, index: int) -> list[int]:
        """Places in the data of a step's prompts, in the order of the data, from its start again when it ends."""
        first = index * self.per_step
        return [number % len(self.prompts) for number in range(first, first + self.per_step)]

    def rollouts_of(self, index: int) -> Iterator[RolloutKey]:
        """Every rollout of a step, sorted by (prompt, sample)."""
        for prompt in sorted(self.prompts_of(index)):
            yield from (RolloutKey(index, prompt, sample) for sample in range(self.samples))

    def attempt(self, key: RolloutKey, attempt: int) -> RolloutId:
        return RolloutId(self.run, key.step, key.prompt, key.sample, attempt)
