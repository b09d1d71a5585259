"""A student's copies and what teachers read beside its prompt: both are for scoring, and have something to teach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule
from preceptor.recipes.schema import Recipe


def _only_score(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """Who writes, grades or guides is served under a name; a copy or a view is a matter of one score task."""
    graders = {reading.teacher for one in terms for reading in one.readings if reading.needs.grader}
    writers = {source.writer for source in recipe.sources.values()}
    guides = {source.policy.teacher for source in recipe.sources.values() if source.policy}
    for name, teacher in recipe.teachers.items():
        used = "student_copy" if teacher.student_copy else "view" if teacher.view else ""
        for does, names in (("grades", graders), ("writes", writers), ("guides the student", guides)):
            if used and name in names:
                yield Finding(
                    Code.COPY_ONLY_SCORES,
                    f"teachers.{name}.{used}",
                    f"a teacher that {does} has no {used}",
                    "give the scores another teacher",
                )


def _has_something_to_teach(recipe: Recipe, _terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for name, teacher in recipe.teachers.items():
        if teacher.student_copy and teacher.student_copy.kind == "current" and not teacher.view:
            why = "the student as it is, which reads what the student reads, agrees with it: the loss is zero"
            yield Finding(Code.COPY_AGREES, f"teachers.{name}.view", why, "give it a view, or another copy")


def _is_published(recipe: Recipe, _terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    every = recipe.schedule.publish_every_steps
    for name, teacher in recipe.teachers.items():
        if teacher.student_copy and (teacher.student_copy.every_steps or every) % every:
            why = f"weights are published every {every} steps, and this copy is taken in between"
            yield Finding(Code.COPY_UNPUBLISHED, f"teachers.{name}.student_copy.every_steps", why, f"take a multiple of {every}")


def _gives_scores(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for reading in (reading for one in terms for reading in one.readings if reading.needs.hidden):
        if recipe.teachers[reading.teacher].student_copy:
            why = "the head that turns hidden states into scores is read once for a run, and a copy's changes"
            yield Finding(Code.COPY_HEAD_CHANGES, f"teachers.{reading.teacher}.student_copy", why, "take a support as the signal")


RULES: tuple[Rule, ...] = (_gives_scores, _only_score, _has_something_to_teach, _is_published)
