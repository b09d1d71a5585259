"""`compile_recipe`: a checked recipe as what each service is told: the loss for the student, a want for each teacher."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preceptor.codec import Grade
from preceptor.errors import ConfigurationError
from preceptor.recipes.behaviour import BehaviourSpec, resolve_policy
from preceptor.recipes.biased import biases
from preceptor.recipes.copies import Copy
from preceptor.recipes.environments import EnvironmentChoice
from preceptor.recipes.lint import Finding, lint
from preceptor.recipes.objective import ObjectiveSpec, TermSpec
from preceptor.recipes.ops.spec import Needs
from preceptor.recipes.resolve import ResolvedTerm, resolve_term
from preceptor.recipes.run_config import RunConfig
from preceptor.recipes.schedules import Number, at_step, ends
from preceptor.recipes.schema import OpUse, Recipe
from preceptor.recipes.views import Feedback
from preceptor.types import TailOf, Want


@dataclass(frozen=True, slots=True)
class Grading:
    """What a grader is told; `parameters_json` is the protocol's field of that name. `steps`: its verdicts go to steps too."""

    grader: str
    parameters_json: str
    steps: bool = False


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """What one teacher does for every rollout of the sources in `on`: it is scored once under `want` where there is one, and
    graded once where there is `grading`. A teacher that only writes has neither. `head_sha256`: what turns its hidden states into
    scores, known once the teacher has answered; empty where nobody wants these. `student_copy`: whose weights it has, not the
    weights served; `view`: what it reads instead of the prompt, made once the group is graded where there is `feedback`."""

    name: str
    model: str
    on: tuple[str, ...]
    want: Want | None
    grading: Grading | None
    head_sha256: bytes = b""
    student_copy: Copy | None = None
    view: str | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How the rollouts of one source are drawn; `student_topk` ids are logged beside each token. `policy_json` is what the
    rollout service is told of a behaviour policy; "" for the student alone."""

    name: str
    writer: str
    samples_per_prompt: int
    max_response_tokens: int
    temperature: float
    student_topk: int
    policy_json: str
    horizon: Number | None = None
    stop: tuple[str, ...] = ()
    environment: EnvironmentChoice | None = None

    @property
    def observed_tokens(self) -> int:
        """Most tokens that a rollout has beside its prompt and its responses."""
        return self.environment.observed_tokens if self.environment else 0

    @property
    def longest(self) -> int:
        """Most tokens that a rollout of any step has."""
        return self.max_response_tokens if self.horizon is None else math.floor(max(ends(self.horizon)))

    def longest_at(self, index: int) -> int:
        """Most tokens that a rollout has which makes step `index` + 1."""
        return self.max_response_tokens if self.horizon is None else math.floor(at_step(self.horizon, index + 1))


@dataclass(frozen=True, slots=True)
class CompiledRecipe:
    """A recipe that can learn, and what the services are told. `warnings`: what it does on purpose that biases its gradient."""

    recipe: Recipe
    objective: ObjectiveSpec
    sources: dict[str, SourcePlan]
    teachers: dict[str, TeacherPlan]
    warnings: tuple[Finding, ...]

    @property
    def config_json(self) -> str:
        """The `config_json` of `OpenRun`."""
        recipe = self.recipe
        copies = {name: plan.student_copy for name, plan in self.teachers.items() if plan.student_copy}
        return RunConfig(
            optimizer=recipe.optimizer,
            training=recipe.training,
            copies=copies,
            look_back_steps=_look_back_steps(recipe),
            seed=recipe.schedule.seed,
        ).model_dump_json()


def findings_of(recipe: Recipe, rollout_engine: str | None = None) -> list[Finding]:
    """Why the recipe is refused, each with a way out; none: it compiles."""
    return lint(recipe, [resolve_term(term, index) for index, term in enumerate(recipe.terms)], rollout_engine)


def compile_recipe(recipe: Recipe, rollout_engine: str | None = None) -> CompiledRecipe:
    """The plans, or `ConfigurationError` with one line for each finding of the linter.

    `rollout_engine`: what will draw, where that is known; a learner asks the service otherwise.
    """
    terms = [resolve_term(term, index) for index, term in enumerate(recipe.terms)]
    if findings := lint(recipe, terms, rollout_engine):
        first = findings[0]
        lines = [f"{one.field}: {one.sentence} [{one.code}]" for one in findings]
        raise ConfigurationError("\n".join(lines), field=first.field, hint=first.hint)
    return CompiledRecipe(
        recipe,
        ObjectiveSpec(temperature=recipe.temperature, terms=tuple(_term_spec(one) for one in terms)),
        {name: _source_plan(recipe, name, terms) for name in recipe.sources},
        {name: _teacher_plan(recipe, name, terms) for name in recipe.teachers},
        tuple(biases(recipe, terms)),
    )


def _look_back_steps(recipe: Recipe) -> int:
    """How far behind the newest version the weights lie at most that drew, or teach, what is still open: what is drawn now may be
    trained so many steps later, and was drawn by the last version before."""
    return recipe.schedule.ahead + recipe.schedule.publish_every_steps - 1


def _term_spec(one: ResolvedTerm) -> TermSpec:
    return TermSpec(
        name=one.name,
        on=one.term.on,
        teacher=one.teacher,
        signal=one.signal.use if one.signal else None,
        objective=one.objective.use,
        token_weights=tuple(use.use for use in one.token_weights),
        sample_weights=tuple(use.use for use in one.sample_weights),
        advantage=tuple(use.use for use in one.advantage),
        when=tuple(use.use for use in one.when),
        pairs=one.pairs.use if one.pairs else None,
        weight=one.term.weight,
        normaliser=one.term.normaliser,
    )


def _source_plan(recipe: Recipe, name: str, terms: Sequence[ResolvedTerm]) -> SourcePlan:
    source = recipe.sources[name]
    return SourcePlan(
        name=name,
        writer=source.writer,
        samples_per_prompt=source.samples_per_prompt,
        max_response_tokens=source.max_response_tokens,
        temperature=recipe.temperature,
        student_topk=max((one.needs.student_topk for term in terms if name in term.sources for one in term.readings), default=0),
        policy_json=_policy_json(recipe, name),
        horizon=source.horizon,
        stop=source.stop,
        environment=source.environment,
    )


def _policy_json(recipe: Recipe, name: str) -> str:
    use = recipe.sources[name].policy
    if use is None:
        return ""
    spec, params = resolve_policy(use, f"sources.{name}.policy")
    model = recipe.teachers[use.teacher].model if use.teacher else ""
    return BehaviourSpec(policy=OpUse(op=spec.name, params=params.model_dump(mode="json")), teacher=model).to_json()


def _teacher_plan(recipe: Recipe, name: str, terms: Sequence[ResolvedTerm]) -> TeacherPlan:
    asked = [(term, one) for term in terms for one in term.readings if one.teacher == name]
    needs = [one.needs for _, one in asked]
    return TeacherPlan(
        name=name,
        model=recipe.teachers[name].model,
        on=tuple(dict.fromkeys(source for term, _ in asked for source in term.sources)),
        want=_want(recipe, name, needs),
        grading=_grading([one for one in needs if one.grader]),
        student_copy=recipe.teachers[name].student_copy,
        view=recipe.teachers[name].view,
        feedback=recipe.teachers[name].feedback,
    )


def _want(recipe: Recipe, name: str, needs: Sequence[Needs]) -> Want | None:
    """All signals of one teacher in one want."""
    rows = [one for one in needs if one.sampled or one.topk or one.student_topk or one.entropy or one.hidden]
    if not rows:
        return None
    return Want(
        sampled=any(one.sampled for one in rows),
        topk=max(one.topk for one in rows),
        log_candidates=any(one.student_topk for one in rows),
        entropy=any(one.entropy for one in rows),
        hidden=any(one.hidden for one in rows),
        tail=TailOf.UNION if any(one.tail for one in rows) else TailOf.NONE,
        temperature=recipe.temperature,
        grade=Grade[recipe.teachers[name].payload.upper()],
        deterministic=recipe.schedule.deterministic,
    )


def _grading(needs: Sequence[Needs]) -> Grading | None:
    """One verdict of one grader, whoever reads it."""
    if not needs:
        return None
    told: dict[str, Any] = dict(needs[0].grader_parameters)
    if needs[0].criteria:
        told["criteria"] = [dict(zip(("text", "weight", "name"), one, strict=True)) for one in needs[0].criteria]
    return Grading(needs[0].grader, json.dumps(told, sort_keys=True), any(one.steps for one in needs))
