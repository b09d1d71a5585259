"""Names lead somewhere: teachers, sources and writers exist, all of them are used, and terms can be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from preceptor.recipes.behaviour import resolve_policy
from preceptor.recipes.environments import ENVIRONMENT
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.finding import Finding
from preceptor.recipes.schema import STUDENT, Recipe
from preceptor.suggest import did_you_mean


def known(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """Every name that is mentioned exists."""
    reserved = ((STUDENT, "the model that learns"), (ENVIRONMENT, "who answers between turns"))
    for name, meaning in reserved:
        if name in recipe.teachers:
            yield Finding(
                Code.NAME_RESERVED, f"teachers.{name}", f"{name!r} always means {meaning}", "give the teacher another name"
            )
    for name, source in recipe.sources.items():
        if source.writer != STUDENT and source.writer not in recipe.teachers:
            writers = (STUDENT, *recipe.teachers)
            yield Finding(
                Code.UNKNOWN_WRITER,
                f"sources.{name}.writer",
                f"there is no writer {source.writer!r}",
                did_you_mean(source.writer, writers),
            )
    yield from _policies(recipe)
    judges = [(f"teachers.{name}.feedback.judge", one.feedback.judge) for name, one in recipe.teachers.items() if one.feedback]
    yield from _teachers(recipe, judges)
    for one in terms:
        mentioned = [(f"{one.where}.on", one.term.on)]
        mentioned += [(f"{one.where}.pairs.params.rejected", name) for name in one.sources[1:]]
        yield from _sources(recipe, mentioned)
        teachers = [(f"{one.where}.teacher", one.teacher)] if one.teacher else []
        own = (use.reading for use in one.uses if use.reading and use.names_a_reading)
        teachers += [(f"{reading.where}.teacher", reading.teacher) for reading in own]
        yield from _teachers(recipe, [(where, name) for where, name in teachers if name != ENVIRONMENT])


def _policies(recipe: Recipe) -> Iterator[Finding]:
    """A policy guides the student, and asks a teacher that exists, or none if it has nothing to ask."""
    for name, source in recipe.sources.items():
        if source.policy is None:
            continue
        where, teacher = f"sources.{name}.policy", source.policy.teacher
        spec, _ = resolve_policy(source.policy, where)
        if source.writer != STUDENT:
            yield Finding(
                Code.POLICY_OF_OTHER_WRITER,
                where,
                "a policy says how the student draws; this source has another writer",
                "remove one of them",
            )
        if spec.asks_teacher and teacher is None:
            yield Finding(
                Code.POLICY_WITHOUT_TEACHER, f"{where}.teacher", f"{spec.name} asks a teacher", "name one of those under teachers"
            )
        elif teacher is not None and not spec.asks_teacher:
            yield Finding(Code.POLICY_ASKS_NOBODY, f"{where}.teacher", f"{spec.name} asks no teacher", "remove it")
        elif teacher is not None:
            yield from _teachers(recipe, [(f"{where}.teacher", teacher)])


def _sources(recipe: Recipe, mentioned: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    for where, name in mentioned:
        if name not in recipe.sources:
            yield Finding(Code.UNKNOWN_SOURCE, where, f"there is no source {name!r}", did_you_mean(name, recipe.sources))


def _teachers(recipe: Recipe, mentioned: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    for where, name in mentioned:
        if name not in recipe.teachers:
            hint = did_you_mean(name, recipe.teachers) if recipe.teachers else "name it under teachers"
            yield Finding(Code.UNKNOWN_TEACHER, where, f"there is no teacher {name!r}", hint)


def used(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """Every source is read and every teacher is asked."""
    read = {source for one in terms for source in one.sources}
    speaking = {reading.teacher for one in terms for reading in one.readings}
    speaking |= {source.writer for source in recipe.sources.values()}
    speaking |= {source.policy.teacher for source in recipe.sources.values() if source.policy and source.policy.teacher}
    for name in recipe.sources.keys() - read:
        yield Finding(
            Code.SOURCE_UNREAD,
            f"sources.{name}",
            f"no term reads the rollouts of {name!r}",
            "remove it, or name it in a term's `on`",
        )
    for name in recipe.teachers.keys() - speaking:
        yield Finding(
            Code.TEACHER_UNASKED,
            f"teachers.{name}",
            f"nobody asks the teacher {name!r}",
            "remove it, or name it in a term or as a writer",
        )


def distinct(_recipe: Recipe, terms: Sequence[ResolvedTerm]) -> Iterator[Finding]:
    """Terms have different names in metrics."""
    seen: set[str] = set()
    for one in terms:
        if one.name in seen:
            yield Finding(Code.TERM_NAME_TAKEN, f"{one.where}.name",
                          f"two terms are called {one.name!r} in metrics", "give one a name of its own",
                          (f"terms.{one.index}.name={one.name}-{one.index}",))  # fmt: skip
        seen.add(one.name)
