"""JSON values of a schema's shape. The shape is forced from outside; the only text in one is what the model wrote."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

DEEPEST = 16
MOST_INSTANCES = 64


def instance(schema: Mapping[str, Any], text: str, depth: int = 0) -> Any:
    """The smallest value that a schema of the usual keywords allows, with the text where a string may be anything."""
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type")
    make = _MAKERS.get(kind[0] if isinstance(kind, list) and kind else str(kind))
    return make(schema, text, depth + 1) if make and depth < DEEPEST else None


def few_instances(schema: Mapping[str, Any]) -> list[Any]:
    """Every value that a schema allows, where those are few: constants, choices, short ranges, and objects of them. Else none."""
    if "const" in schema or schema.get("enum"):
        return [schema["const"]] if "const" in schema else list(schema["enum"])
    if schema.get("type") == "boolean":
        return [False, True]
    if schema.get("type") == "integer" and "minimum" in schema and "maximum" in schema:
        lowest, highest = schema["minimum"], schema["maximum"]
        return list(range(lowest, highest + 1)) if highest - lowest < MOST_INSTANCES else []
    if schema.get("type") == "object":
        return _few_objects(schema)
    return []


def _few_objects(schema: Mapping[str, Any]) -> list[Any]:
    names = list(schema.get("required", ()))
    members = [few_instances(schema.get("properties", {}).get(name, {})) for name in names]
    if math.prod(map(len, members)) > MOST_INSTANCES:
        return []
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*members)]


def _object(schema: Mapping[str, Any], text: str, depth: int) -> dict[str, Any]:
    known = schema.get("properties", {})
    return {name: instance(known.get(name, {}), text, depth) for name in schema.get("required", known)}


def _array(schema: Mapping[str, Any], text: str, depth: int) -> list[Any]:
    return [instance(schema.get("items", {}), text, depth) for _ in range(schema.get("minItems", 0))]


def _number(schema: Mapping[str, Any], text: str, depth: int) -> Any:
    return schema.get("minimum", 0)


def _string(schema: Mapping[str, Any], text: str, depth: int) -> str:
    return text[: schema.get("maxLength", len(text))]


def _false(schema: Mapping[str, Any], text: str, depth: int) -> bool:
    return False


_MAKERS: dict[str, Callable[[Mapping[str, Any], str, int], Any]] = {
    "object": _object,
    "array": _array,
    "integer": _number,
    "number": _number,
    "string": _string,
    "boolean": _false,
}
