"""`recipe_json_schema`: a JSON schema that lets an editor complete field names, op names and their parameters."""

from __future__ import annotations

from typing import Any

from preceptor.recipes.ops import OPS, Kind, OpSpec
from preceptor.recipes.schema import Recipe


def recipe_json_schema() -> dict[str, Any]:
    """Draft 2020-12; the slots of a term list exactly the ops of their kind, each with its own parameters."""
    schema = Recipe.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    del definitions["OpUse"]
    for kind in Kind:
        slot, optional = _slot(kind, definitions), kind is not Kind.OBJECTIVE
        field: dict[str, Any] = definitions["Term"]["properties"][str(kind)]
        described = {key: field[key] for key in ("description", "default") if key in field}
        definitions["Term"]["properties"][str(kind)] = described | {"anyOf": [*slot, *([{"type": "null"}] if optional else [])]}
    return schema


def _slot(kind: Kind, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    specs = [spec for spec in OPS.values() if spec.kind is kind]
    bare = [spec.name for spec in specs if not spec.params.model_json_schema().get("required")]
    return [{"type": "string", "enum": bare}, *(_use(spec, definitions) for spec in specs)]


def _use(spec: OpSpec, definitions: dict[str, Any]) -> dict[str, Any]:
    params = spec.params.model_json_schema()
    definitions.update(params.pop("$defs", {}))
    return {
        "type": "object",
        "description": spec.summary,
        "properties": {"op": {"const": spec.name}, "params": params},
        "required": ["op", *(["params"] if params.get("required") else [])],
        "additionalProperties": False,
    }
