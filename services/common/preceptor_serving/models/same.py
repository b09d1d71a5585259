"""Whether two model folders hold weights of the same model: only then can one be read in place of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from preceptor.errors import WrongPair

SAYS_NOTHING = frozenset({"_name_or_path", "dtype", "torch_dtype", "transformers_version"})
"""Members of a config.json that change without the model."""
TIED = "lm_head.weight"


def check_same_model(served: Path, version: Path) -> None:
    """Refuses a version whose configuration or tensors are not those of the model that is served."""
    ours, theirs = _configuration(served), _configuration(version)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            _refuse("has another configuration", f"config.json: {name}", theirs.get(name), ours.get(name))
    tied = frozenset({TIED}) if ours.get("tie_word_embeddings") else frozenset()
    mine, others = shapes_in(served), shapes_in(version)
    for name in sorted((mine.keys() | others.keys()) - tied):
        if mine.get(name) != others.get(name):
            _refuse("has other tensors", name, others.get(name), mine.get(name))


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a folder; nothing of them is read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  not a mapping
    return shapes


def _configuration(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {name: value for name, value in values.items() if name not in SAYS_NOTHING}


def _refuse(why: str, field: str, value: object, limit: object) -> None:
    raise WrongPair(f"the version {why} than the model that is served", field=field, value=str(value), limit=str(limit))
