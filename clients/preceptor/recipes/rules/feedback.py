"""Views of finished rollouts: there is something to show, and somebody who judges it in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule
from preceptor.recipes.schema import Recipe
from preceptor.recipes.views import FEEDBACK_PLACES, SIBLING, fields_of


def _is_shown(recipe: Recipe, _terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for name, teacher in recipe.teachers.items():
        if teacher.feedback and not set(FEEDBACK_PLACES) & set(fields_of(teacher.view or "")):
            why = "the view shows no finished rollout, so nobody has to judge any"
            yield Finding(
                Code.FEEDBACK_NOT_SHOWN, f"teachers.{name}.view", why, "name {sibling} or {critique} in it, or remove feedback"
            )


def _judges_what_is_scored(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """A judge is asked where some term reads its verdict."""
    for name, teacher in recipe.teachers.items():
        if teacher.feedback is None:
            continue
        scored = _read(terms, name, graded=False)
        for source in sorted(scored - _read(terms, teacher.feedback.judge, graded=True)):
            why = f"{teacher.feedback.judge} does not grade the rollouts of {source}, which {name} reads again"
            advice = f"let a term on {source} read its reward, such as pass_rate_within under when"
            yield Finding(Code.FEEDBACK_NOT_JUDGED, f"teachers.{name}.feedback.judge", why, advice)


def _has_siblings(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for name, teacher in recipe.teachers.items():
        if teacher.feedback is None or SIBLING not in fields_of(teacher.view or ""):
            continue
        for source in sorted(_read(terms, name, graded=False)):
            if recipe.sources[source].samples_per_prompt == 1:
                field = f"sources.{source}.samples_per_prompt"
                yield Finding(
                    Code.FEEDBACK_WITHOUT_SIBLINGS,
                    field,
                    f"{name} is shown another rollout of the group, which has one",
                    "",
                    (f"{field}=8",),
                )


def _read(terms: Sequence[ResolvedTerm], teacher: str, *, graded: bool) -> set[str]:
    """The sources on which a teacher gives verdicts, or scores."""
    found = [(one, reading) for one in terms for reading in one.readings if reading.teacher == teacher]
    return {source for one, reading in found if bool(reading.needs.grader) == graded for source in one.sources}


RULES: tuple[Rule, ...] = (_is_shown, _judges_what_is_scored, _has_siblings)
