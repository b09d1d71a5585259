"""`recipe_json_schema`: a JSON schema that lets an editor complete field names, op names and their parameters."""

from __future__ import annotations

from typing import Any

from preceptor.recipes.ops import OPS, Kind, OpSpec
from preceptor.recipes.schema import Recipe

PLAIN = {"signal": Kind.SIGNAL, "objective": Kind.OBJECTIVE}
"""Slots of a term that hold one op, which reads what the term reads."""

LISTS = {
    "advantage": (Kind.ADVANTAGE, Kind.TRANSFORM),
    "token_weights": (Kind.TOKEN_WEIGHT,),
    "sample_weights": (Kind.SAMPLE_WEIGHT,),
    "when": (Kind.CONDITION,),
}
"""Slots that hold one op or several, each of which may read a signal of its own."""


def recipe_json_schema() -> dict[str, Any]:
    """Draft 2020-12; the slots of a term list exactly the ops of their kind, each with its own parameters."""
    schema = Recipe.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    del definitions["OpUse"], definitions["Use"]
    own = {"teacher": {"type": "string"}, "signal": {"anyOf": _ops((Kind.SIGNAL,), definitions, {})}}
    slots = {slot: _ops((kind,), definitions, {}) for slot, kind in PLAIN.items()}
    slots["pairs"] = _ops((Kind.PAIRS,), definitions, own)
    for slot, kinds in LISTS.items():
        ops = _ops(kinds, definitions, own)
        slots[slot] = [*ops, {"type": "array", "items": {"anyOf": ops}}]
    for slot, ops in slots.items():
        field: dict[str, Any] = definitions["Term"]["properties"][slot]
        described = {key: field[key] for key in ("description", "default") if key in field}
        optional = [] if slot == "objective" else [{"type": "null"}]
        definitions["Term"]["properties"][slot] = described | {"anyOf": [*ops, *optional]}
    return schema


def _ops(kinds: tuple[Kind, ...], definitions: dict[str, Any], own: dict[str, Any]) -> list[dict[str, Any]]:
    """A bare name where nothing has to be given, or an object; `own` are further keys that the object may have."""
    specs = [spec for spec in OPS.values() if spec.kind in kinds]
    bare = [spec.name for spec in specs if not spec.params.model_json_schema().get("required")]
    names = [{"type": "string", "enum": bare}] if bare else []
    return [*names, *(_use(spec, definitions, own) for spec in specs)]


def _use(spec: OpSpec, definitions: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    params = spec.params.model_json_schema()
    definitions.update(params.pop("$defs", {}))
    return {
        "type": "object",
        "description": spec.summary,
        "properties": {"op": {"const": spec.name}, "params": params, **own},
        "required": ["op", *(["params"] if params.get("required") else [])],
        "additionalProperties": False,
    }
