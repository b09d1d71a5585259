"""`load_recipe`: a YAML file and `key=value` overrides, validated once; every error names the field and what is near it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from preceptor.errors import ConfigurationError
from preceptor.recipes.schema import Recipe
from preceptor.recipes.strict_yaml import parse_yaml, read_yaml
from preceptor.suggest import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
FILES = (("data", "path"), ("evaluation", "path"))
UNION_TAGS = ("number", "ramp")
_LIMITS = ("ge", "gt", "le", "lt", "min_length", "max_length", "expected", "pattern", "error")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file. An override is `dotted.key=value`, its value YAML, a list item by its number: `terms.0.weight=2`."""
    raw: Any = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path} holds no recipe", field="recipe", value=str(path), hint="write `name: value` lines")
    recipe = cast(dict[str, Any], raw)
    _resolve_files(recipe, path.parent)
    for text in overrides:
        override(recipe, text)
    return recipe_from(recipe)


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """The recipe of plain data, as YAML or JSON give it."""
    return validate(Recipe, values, "")


def validate(model: type[M], values: object, where: str) -> M:
    """The model of plain data; `where` leads the names of fields in errors."""
    try:
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise _configuration_error(model, error, where) from None


def override(recipe: dict[str, Any], text: str) -> None:
    """Sets one value in plain data; the last part of the key may be new, the way to it may not."""
    key, found, value = text.partition("=")
    if not found or not key:
        raise ConfigurationError(
            f"{text!r} is no override", field="override", value=text, limit="dotted.key=value", hint="write schedule.steps=5"
        )
    *way, last = key.split(".")
    at: Any = recipe
    for part in way:
        at = _step_into(at, part, key)
    _set(at, last, parse_yaml(value, f"override {key}"), key)


def _step_into(at: Any, part: str, key: str) -> Any:
    if isinstance(at, dict):
        mapping = cast(dict[str, Any], at)
        if part in mapping:
            return mapping[part]
        hint = f"{did_you_mean(part, mapping)}; what the file leaves out is set whole, such as 'training={{lora: {{rank: 4}}}}'"
        raise ConfigurationError(f"{key}: the recipe's file has no {part!r}", field=key, value=part, hint=hint)
    return _items(at, part, key)[int(part)]


def _set(at: Any, last: str, value: object, key: str) -> None:
    if isinstance(at, dict):
        cast(dict[str, Any], at)[last] = value
    else:
        _items(at, last, key)[int(last)] = value


def _items(at: Any, part: str, key: str) -> list[Any]:
    items = cast(list[Any], at) if isinstance(at, list) else []
    if not (part.isascii() and part.isdigit() and int(part) < len(items)):
        raise ConfigurationError(f"{key}: nothing is at {part!r}", field=key, value=part, limit=f"0..{len(items) - 1}")
    return items


def _resolve_files(recipe: dict[str, Any], folder: Path) -> None:
    for section, field in FILES:
        part: Any = recipe.get(section)
        if isinstance(part, dict) and isinstance(written := cast(dict[str, Any], part).get(field), str):
            part[field] = str(folder / written)


# ---------------------------------------------------------------- errors


def _configuration_error(model: type[BaseModel], error: ValidationError, where: str) -> ConfigurationError:
    """All findings, one a line; field, value, limit and hint are those of the first."""
    found = _telling(error.errors(include_url=False))
    fields = [".".join(filter(None, (where, _path(one["loc"])))) for one in found]
    first, context = found[0], found[0].get("ctx", {})
    lines = (f"{field or 'recipe'}: {_said(str(one['msg']))}" for field, one in zip(fields, found, strict=True))
    return ConfigurationError(
        "\n".join(dict.fromkeys(lines)),
        field=fields[0],
        value="" if first["type"] == "missing" else first["input"],
        limit=next((context[key] for key in _LIMITS if key in context), ""),
        hint=_hint(model, first["type"], first["loc"]),
    )


def _telling(found: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the findings that only follow from another one: a list is not too short because its item is wrong."""
    places = [one["loc"] for one in found]
    return [one for one in found if not any(place[: len(one["loc"])] == one["loc"] != place for place in places)]


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "there is no such field")


def _path(loc: tuple[int | str, ...]) -> str:
    """`terms[0].weight`; the names that pydantic gives to members of a union are left out."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in {*UNION_TAGS, "[key]"} and not part.startswith("function-"):
            text += f".{part}"
    return text.removeprefix(".")


def _hint(model: type[BaseModel], kind: str, loc: tuple[int | str, ...]) -> str:
    if kind != "extra_forbidden":
        return ""
    known = _fields_at(model, loc[:-1])
    return did_you_mean(str(loc[-1]), known) if known else "remove it"


def _fields_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The fields of the model that stands at a place of another one."""
    at = model
    for part in loc:
        at = at if part in UNION_TAGS else _child(at, part)
    return list(at.model_fields) if isinstance(at, type) and issubclass(at, BaseModel) else []


def _child(at: Any, part: int | str) -> Any:
    if isinstance(at, type) and issubclass(at, BaseModel):
        field = at.model_fields.get(str(part))
        return None if field is None else _without_none(field.annotation)
    arguments = get_args(at)
    return arguments[1 if get_origin(at) is dict else 0] if arguments else None


def _without_none(annotation: Any) -> Any:
    members = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (Union, UnionType) and len(members) == 1:
        annotation = members[0]
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
