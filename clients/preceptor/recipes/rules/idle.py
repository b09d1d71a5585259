"""Every knob does something: parameters that switch an op off, and ops that cannot change anything where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops.perplexity import PerplexityParams
from preceptor.recipes.ops.ratios import AgainstDrawn
from preceptor.recipes.resolve import ResolvedOp, ResolvedTerm
from preceptor.recipes.rules import names
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule
from preceptor.recipes.schedules import ends
from preceptor.recipes.schema import STUDENT, Recipe

SELECTS = ("positions", "span")
RESCALES = ("top_fraction", "mean_one")


def _parameters(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        ops = [(f"{one.where}.objective", one.objective), *((use.where, use.op) for use in one.uses)]
        for where, op in ops:
            if why := op.spec.idle(op.params):
                yield Finding(Code.PARAMETERS_IDLE, where, f"{op.spec.name}: {why}", "remove it, or give it other parameters")


def _weights_to_work_on(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        weighed = False
        for use in one.token_weights:
            name = use.op.spec.name
            if name in RESCALES and not weighed:
                why = f"{name} works on the weights before it, and before it all rows weigh the same"
                yield Finding(Code.NO_WEIGHTS_BEFORE, use.where, why, "put a weight such as exponential before it")
            weighed |= name not in (*SELECTS, *RESCALES)


def _rollouts_can_be_stale(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """Strictly on-policy every rollout is fresh, and in deterministic mode ratios differ from one by rounding only."""
    if recipe.schedule.publish_every_steps > 1:
        return
    for one in terms:
        by_student = recipe.sources[one.term.on].writer == STUDENT
        ops = [(f"{one.where}.objective", one.objective), *((use.where, use.op) for use in one.uses)]
        for where, op in ops if by_student else ():
            ratio = isinstance(op.params, AgainstDrawn) and recipe.schedule.deterministic
            if ratio or op.spec.name == "freshness":
                why = f"{op.spec.name} changes nothing where every rollout is drawn by the weights that are trained on it"
                yield Finding(
                    Code.ALWAYS_FRESH, where, why, "publish less often, or remove it", ("schedule.publish_every_steps=2",)
                )


def _columns_are_the_students(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        if recipe.sources[one.term.on].writer == STUDENT:
            continue
        for use in one.uses:
            if _needs_own_draw(use.op):
                why = f"{use.op.spec.name} would read what the teacher that wrote the rollout logged, not the student"
                yield Finding(
                    Code.COLUMNS_OF_TEACHER, use.where, why, "take a source that the student writes, or other parameters"
                )


def _needs_own_draw(op: ResolvedOp) -> bool:
    if isinstance(op.params, PerplexityParams):
        return op.params.of == "student"
    return op.spec.name == "freshness" or (isinstance(op.params, AgainstDrawn) and op.params.against == "policy")


def _horizons(recipe: Recipe, _terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for name, source in recipe.sources.items():
        if source.horizon is not None and max(ends(source.horizon)) > source.max_response_tokens:
            why = f"it reaches {max(ends(source.horizon)):g} tokens, and a rollout stops after {source.max_response_tokens}"
            yield Finding(Code.HORIZON_TOO_LONG, f"sources.{name}.horizon", why, "make it shorter, or max_response_tokens larger")


RULES: tuple[Rule, ...] = (
    _horizons,
    _parameters,
    _weights_to_work_on,
    _rollouts_can_be_stale,
    _columns_are_the_students,
    names.used,
    names.distinct,
)
