"""Rules that a recipe must keep to be able to learn. Each is a function that yields findings: a field, a sentence, a way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from preceptor.recipes.ops import Gradient
from preceptor.recipes.ops.spec import Needs
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.schedules import Number, Ramp
from preceptor.recipes.schema import STUDENT, Recipe
from preceptor.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a recipe is refused."""

    field: str
    sentence: str
    hint: str = ""


Rule = Callable[[Recipe, Sequence[ResolvedTerm]], Iterator[Finding]]


def lint(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> list[Finding]:
    """Everything that is wrong. Names are checked first: the other rules rely on them."""
    return list(_names(recipe, terms)) or [finding for rule in RULES for finding in rule(recipe, terms)]


def _names(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    if STUDENT in recipe.teachers:
        yield Finding(f"teachers.{STUDENT}", f"{STUDENT!r} always means the model that learns", "give the teacher another name")
    for name, source in recipe.sources.items():
        if source.writer != STUDENT and source.writer not in recipe.teachers:
            known = (STUDENT, *recipe.teachers)
            yield Finding(f"sources.{name}.writer", f"there is no writer {source.writer!r}", did_you_mean(source.writer, known))
    for one in terms:
        if one.term.on not in recipe.sources:
            yield Finding(f"{one.where}.on", f"there is no source {one.term.on!r}", did_you_mean(one.term.on, recipe.sources))
        if one.term.teacher is not None and one.term.teacher not in recipe.teachers:
            hint = did_you_mean(one.term.teacher, recipe.teachers) if recipe.teachers else "name it under teachers"
            yield Finding(f"{one.where}.teacher", f"there is no teacher {one.term.teacher!r}", hint)


def _signals_fit(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        objective = one.objective.spec
        if objective.reads:
            yield from _teacher_is_read(one)
        elif one.term.teacher is not None or one.signal is not None:
            yield Finding(f"{one.where}.teacher", f"{objective.name} reads no teacher, so these fields would change nothing",
                          "remove teacher and signal")  # fmt: skip


def _teacher_is_read(one: ResolvedTerm) -> Iterator[Finding]:
    objective, known = one.objective.spec, " or ".join(sorted(one.objective.spec.reads))
    if one.term.teacher is None or one.signal is None:
        missing = "teacher" if one.term.teacher is None else "signal"
        yield Finding(f"{one.where}.{missing}", f"{objective.name} learns from a teacher's signal", f"name a teacher and {known}")
    elif one.signal.spec.name not in objective.reads:
        yield Finding(f"{one.where}.signal", f"{objective.name} cannot read {one.signal.spec.name}", f"it reads {known}")


def _advantages_fit(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        where, objective = f"{one.where}.advantage", one.objective.spec
        if not objective.takes_advantage and one.advantage is not None:
            yield Finding(where, f"{objective.name} has no use for an advantage", "remove it")
        elif objective.takes_advantage and one.advantage is None:
            yield Finding(where, f"without an advantage {objective.name} has zero expected gradient", "name one, such as k1")
        elif one.advantage and one.signal and one.signal.spec.name not in one.advantage.spec.reads:
            wanted = " or ".join(sorted(one.advantage.spec.reads))
            yield Finding(where, f"{one.advantage.spec.name} cannot read {one.signal.spec.name}", f"it reads {wanted}")


def _writers_fit(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        by_student = recipe.sources[one.term.on].writer == STUDENT
        gradient = one.objective.spec.gradient
        if by_student and gradient is Gradient.LIKELIHOOD:
            why = "imitating its own draws teaches the student nothing: no teacher is in the gradient"
            yield Finding(f"{one.where}.on", why, "take a source that a teacher writes")
        if not by_student and gradient is Gradient.SCORE_FUNCTION:
            yield Finding(f"{one.where}.on", "a policy gradient is right only for tokens that the student itself drew",
                          "take a source that the student writes, or a divergence")  # fmt: skip
        if not by_student and needs_of(one).student_topk:
            yield Finding(f"{one.where}.signal", "rollouts that a teacher writes carry no top-k of the student",
                          "set student_topk: 0")  # fmt: skip


def _groups_compare(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        alone = recipe.sources[one.term.on].samples_per_prompt == 1
        if one.advantage and one.advantage.spec.name == "group_relative" and alone:
            where = f"sources.{one.term.on}.samples_per_prompt"
            yield Finding(where, "in a group of one, reward minus group mean is always zero", "draw two or more")


def _one_want_each(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """A teacher is asked once for each rollout, and its tail is the mass outside everything it returned."""
    first: dict[tuple[str, str], ResolvedTerm] = {}
    for one in terms:
        if one.term.teacher is None or one.signal is None:
            continue
        earlier = first.setdefault((one.term.teacher, one.signal.spec.name), one)
        support = first.get((one.term.teacher, "support"))
        unsampled = support is not None and not needs_of(support).sampled and (one.term.teacher, "sampled") in first
        if needs_of(earlier) != needs_of(one) or unsampled:
            yield Finding(f"{one.where}.signal", f"{one.term.teacher} is asked for another signal by another term",
                          "list the same model under a second name in teachers")  # fmt: skip


def _something_moves(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        if _always_zero(one.term.weight):
            yield Finding(f"{one.where}.weight", "a weight of zero leaves the term without gradient", "remove the term")
    if _always_zero(recipe.optimizer.learning_rate):
        yield Finding("optimizer.learning_rate", "at a rate of zero nothing is learned", "set a rate above zero")


def _everything_is_used(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    read = {one.term.on for one in terms}
    speaking = {one.term.teacher for one in terms} | {source.writer for source in recipe.sources.values()}
    for name in recipe.sources.keys() - read:
        yield Finding(f"sources.{name}", f"no term reads the rollouts of {name!r}", "remove it, or name it in a term's `on`")
    for name in recipe.teachers.keys() - speaking:
        yield Finding(f"teachers.{name}", f"nobody asks the teacher {name!r}", "remove it, or name it in a term or as a writer")


def _terms_have_names(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    seen: set[str] = set()
    for one in terms:
        if one.name in seen:
            yield Finding(f"{one.where}.name", f"two terms are called {one.name!r} in metrics", "give one a name of its own")
        seen.add(one.name)


def needs_of(one: ResolvedTerm) -> Needs:
    """What the term asks of its teacher."""
    return one.signal.spec.needs(one.signal.params) if one.signal else Needs()


def _always_zero(number: Number) -> bool:
    return (number.start == number.end == 0.0) if isinstance(number, Ramp) else number == 0.0


RULES: tuple[Rule, ...] = (
    _signals_fit,
    _advantages_fit,
    _writers_fit,
    _groups_compare,
    _one_want_each,
    _something_moves,
    _everything_is_used,
    _terms_have_names,
)
"""To add a rule: a function like those above, and its name here."""
