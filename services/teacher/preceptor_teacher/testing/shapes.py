"""A JSON value of a schema's shape. The shape is forced from outside; the only text in it is what the model wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DEEPEST = 16


def instance(schema: Mapping[str, Any], text: str, depth: int = 0) -> Any:
    """The smallest value that a schema of the usual keywords allows, with the text where a string may be anything."""
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    kind = schema.get("type")
    make = _MAKERS.get(kind[0] if isinstance(kind, list) and kind else str(kind))
    return make(schema, text, depth + 1) if make and depth < DEEPEST else None


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
