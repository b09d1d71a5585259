"""Prompts to train on and questions to be judged by, from files of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from preceptor.errors import ConfigurationError
from preceptor.recipes import Recipe
from preceptor.recipes.views import FEEDBACK_PLACES, fields_of, filled_in_part

MAX_SHOWN = 40


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One held-out question, its right answer, and what an environment is told of it, as JSON."""

    prompt: str
    answer: str
    task_json: str = ""


def training_prompts(recipe: Recipe) -> tuple[str, ...]:
    """The prompts of `data.path`, in its order."""
    found = tuple(_text(line, recipe.data.prompt_field, where) for where, line in _lines(recipe.data.path, "data.path"))
    if not found:
        raise ConfigurationError(f"{recipe.data.path} has no prompts", field="data.path", value=recipe.data.path)
    return found


def training_answers(recipe: Recipe) -> tuple[str, ...]:
    """The right answer to each of the prompts; none where the recipe names no field for them."""
    name = recipe.data.answer_field
    return tuple(_text(line, name, where) for where, line in _lines(recipe.data.path, "data.path")) if name else ()


def training_views(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """What each teacher with a view reads instead of each prompt, by the recipe's name for it. Where finished rollouts are shown
    it is still a view, with their places."""
    views = {name: (teacher.view, teacher.feedback) for name, teacher in recipe.teachers.items() if teacher.view is not None}
    lines = list(_lines(recipe.data.path, "data.path")) if views else []
    return {
        name: tuple(_shown(view, line, where) if feedback else _filled(view, line, where) for where, line in lines)
        for name, (view, feedback) in views.items()
    }


def training_tasks(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """What the environment of each source that has one is told of each prompt, as JSON."""
    named = {name: source.environment for name, source in recipe.sources.items() if source.environment is not None}
    lines = list(_lines(recipe.data.path, "data.path")) if named else []
    return {name: tuple(_task(line, use.task_fields, where) for where, line in lines) for name, use in named.items()}


def evaluation_items(recipe: Recipe) -> tuple[EvaluationItem, ...]:
    """The first questions of `evaluation.path`; none where the recipe does not evaluate."""
    asked = recipe.evaluation
    if asked is None:
        return ()
    lines = islice(_lines(asked.path, "evaluation.path"), asked.prompts)
    environment = recipe.sources[asked.source].environment if asked.source else None
    items = tuple(
        EvaluationItem(
            _text(line, asked.prompt_field, where),
            _text(line, asked.answer_field, where),
            _task(line, environment.task_fields, where) if environment else "",
        )
        for where, line in lines
    )
    if not items:
        raise ConfigurationError(f"{asked.path} has no questions", field="evaluation.path", value=asked.path)
    return items


def _lines(path: str, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", _object(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", field=field, value=path) from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}", field="data", value=line[:MAX_SHOWN], limit="one JSON object") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} is no object", field="data", value=line[:MAX_SHOWN], limit="one JSON object")
    return cast(dict[str, Any], value)


def _filled(view: str, line: dict[str, Any], where: str) -> str:
    return view.format_map({name: _text(line, name, where) for name in fields_of(view)})


def _shown(view: str, line: dict[str, Any], where: str) -> str:
    return filled_in_part(view, {name: _text(line, name, where) for name in fields_of(view) if name not in FEEDBACK_PLACES})


def _task(line: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    if missing := [name for name in names if name not in line]:
        known = ", ".join(sorted(line))
        raise ConfigurationError(f"{where} has no {missing[0]!r}", field=missing[0], limit=f"its fields: {known}")
    return json.dumps({name: line[name] for name in names}, sort_keys=True)


def _text(line: dict[str, Any], name: str, where: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        known = ", ".join(sorted(line))
        raise ConfigurationError(f"{where} has no text {name!r}", field=name, value=repr(value), limit=f"its fields: {known}")
    return value
