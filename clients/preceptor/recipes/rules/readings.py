"""Signals fit: what an op needs is named, is something it can read, and can be asked of the teacher together with the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from preceptor.recipes.ops.reward import COMPARING, GROUPING
from preceptor.recipes.resolve import Reading, ResolvedTerm, ResolvedUse
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding, Rule, TermRule
from preceptor.recipes.schema import STUDENT, Recipe

TYPED = {"sampled": "sampled", "support": "{op: support, params: {teacher_topk: 8}}", "entropy": "entropy"}
"""Signals that can be named without knowing more than their name, as they are typed."""


def _objective_reads(terms: Sequence[ResolvedTerm], teachers: Sequence[str]) -> Iterator[Finding]:
    for one in terms:
        if _reads_a_teacher(one):
            yield from _teacher_is_read(teachers, one)


def _reads_a_teacher(one: ResolvedTerm) -> bool:
    """With an advantage in its place, an objective may leave the teacher to that."""
    objective, named = one.objective.spec, one.teacher is not None or one.signal is not None
    return bool(objective.reads) and not (objective.takes_advantage and not named)


def _is_read_by_somebody(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        named = one.teacher is not None or one.signal is not None
        inherited = any(use.reading and not use.names_a_reading for use in one.uses)
        if named and not inherited and not _reads_a_teacher(one):
            fix = tuple(f"terms.{one.index}.{slot}=null" for slot in ("teacher", "signal"))
            why = f"{one.objective.spec.name} reads no teacher, so these fields would change nothing"
            yield Finding(Code.TEACHER_UNREAD, f"{one.where}.teacher", why, "remove teacher and signal", fix)


def _teacher_is_read(teachers: Sequence[str], one: ResolvedTerm) -> Iterator[Finding]:
    objective, known = one.objective.spec, " or ".join(sorted(one.objective.spec.reads))
    if one.teacher is None or one.signal is None:
        missing = "teacher" if one.teacher is None else "signal"
        why = f"{objective.name} learns from a teacher's signal"
        yield Finding(
            Code.SIGNAL_MISSING, f"{one.where}.{missing}", why, f"name a teacher and {known}", _naming_both(teachers, one)
        )
    elif one.signal.spec.name not in objective.reads:
        yield Finding(
            Code.SIGNAL_UNREADABLE,
            f"{one.where}.signal",
            f"{objective.name} cannot read {one.signal.spec.name}",
            f"it reads {known}",
        )


def _naming_both(teachers: Sequence[str], one: ResolvedTerm) -> tuple[str, ...]:
    """Overrides that name what is missing: the first teacher, and a signal for the objective and all who take the term's."""
    readable = set(one.objective.spec.reads)
    for use in one.uses:
        own = use.op.spec.signals(use.op.params)
        readable &= own if own and not use.names_a_reading else readable
    signal = next((text for name, text in TYPED.items() if name in readable), "")
    if not teachers or not (one.signal or signal):
        return ()
    teacher = () if one.teacher else (f"terms.{one.index}.teacher={teachers[0]}",)
    return teacher if one.signal else (*teacher, f"terms.{one.index}.signal={signal}")


def _uses_read(terms: Sequence[ResolvedTerm], _teachers: Sequence[str]) -> Iterator[Finding]:
    for one in terms:
        for use in one.uses:
            yield from _reads(one, use)


def _reads(one: ResolvedTerm, use: ResolvedUse) -> Iterator[Finding]:
    name, readable = use.op.spec.name, use.op.spec.signals(use.op.params)
    wanted = " or ".join(sorted(readable))
    if not readable:
        if use.names_a_reading:
            yield Finding(
                Code.SLOT_TEACHER_UNREAD,
                use.where,
                f"{name} reads no teacher here, so teacher and signal would change nothing",
                "remove them",
            )
    elif use.reading is None:
        foreign = one.signal is not None and one.signal.spec.name not in readable
        what = (
            f"cannot read {one.signal.spec.name}" if one.signal and foreign else f"reads {wanted} of a teacher, and none is named"
        )
        yield Finding(
            Code.SLOT_SIGNAL_MISSING,
            use.where,
            f"{name} {what}",
            f"it reads {wanted}: name a teacher and that signal in this slot",
        )
    elif use.reading.signal.spec.name not in readable:
        yield Finding(
            Code.SLOT_SIGNAL_UNREADABLE,
            f"{use.where}.signal",
            f"{name} cannot read {use.reading.signal.spec.name}",
            f"it reads {wanted}",
        )


def _one_want_each(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """A teacher is asked once for each rollout, and its tail is the mass outside everything it returned."""
    first: dict[tuple[str, str], Reading] = {}
    for one in (reading for term in terms for reading in term.readings):
        earlier = first.setdefault((one.teacher, "a grader" if one.needs.grader else one.signal.spec.name), one)
        support = first.get((one.teacher, "support"))
        unsampled = support is not None and not support.needs.sampled and (one.teacher, "sampled") in first
        if replace(earlier.needs, steps=one.needs.steps) != one.needs or unsampled:
            yield Finding(Code.TWO_WANTS, one.where, f"{one.teacher} is asked for another signal by another term",
                          "list the same model under a second name in teachers")  # fmt: skip


def _student_topk_is_logged(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        by_teacher = [name for name in one.sources if recipe.sources[name].writer != STUDENT]
        for reading in one.readings if by_teacher else ():
            if reading.needs.student_topk:
                yield Finding(
                    Code.NO_TOPK_OF_STUDENT,
                    reading.where,
                    "rollouts that a teacher writes carry no top-k of the student",
                    "set student_topk: 0",
                )


def _answers_are_told(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    graded = [reading for term in terms for reading in term.readings if reading.needs.grader]
    name = recipe.data.answer_field
    if name is not None and not graded:
        why = "no term reads a grader, so nobody would be told the answers"
        yield Finding(Code.ANSWERS_UNTOLD, "data.answer_field", why, "remove it", ("data.answer_field=null",))
    for one in graded if name is None else ():
        if one.needs.grader in COMPARING:
            why = f"{one.needs.grader} compares with the right answer, and the data has none"
            yield Finding(Code.NO_ANSWERS, one.where, why, "name the key of the answers in data.answer_field")


def _groups_are_compared(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    for one in terms:
        alone = [name for name in one.sources if recipe.sources[name].samples_per_prompt == 1]
        for reading in one.readings:
            if alone and reading.needs.grader in GROUPING:
                why = f"{reading.needs.grader} compares the rollouts of a prompt, and {alone[0]} draws one"
                field = f"sources.{alone[0]}.samples_per_prompt"
                yield Finding(Code.JUDGE_NEEDS_GROUP, reading.where, why, f"set {field}: 2 or more", (f"{field}=4",))


TERM_RULES: tuple[TermRule, ...] = (_objective_reads, _uses_read)
RULES: tuple[Rule, ...] = (_is_read_by_somebody, _one_want_each, _student_topk_is_logged, _answers_are_told, _groups_are_compared)
