"""What runs the demo's models: transformers as the services start it, or vLLM with room for a tiny pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from preceptor.demo.pair import TEACHER_NAME, Pair
from preceptor.local.stack import ServicePlan

Engine = Literal["hf", "vllm"]
VLLM: dict[str, Any] = {"block_size": 32, "kv_cache_memory_bytes": 64 << 20, "enforce_eager": True}


def teacher_plan(engine: Engine, pair: Pair, folder: Path, flags: tuple[str, ...] = ()) -> ServicePlan:
    """The teacher's service. vLLM is chosen in a teachers file, which is written into the folder."""
    if engine == "hf":
        return ServicePlan("teacher", "teacher", pair.teacher_model, flags=flags)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "teachers.yaml"
    entry = {"engine": "vllm", "folder": str(pair.teacher), "dtype": "f32", **VLLM}
    file.write_text(json.dumps({"teachers": {TEACHER_NAME: entry}}), encoding="utf-8")  # JSON is YAML
    return ServicePlan("teacher", "teacher", None, flags=("--teachers-file", str(file), *flags))


def rollout_plan(name: str, engine: Engine, model: str, flags: tuple[str, ...] = ()) -> ServicePlan:
    """A service that writes with a model's weights."""
    chosen = () if engine == "hf" else ("--engine", "vllm", "--engine-options", json.dumps(VLLM))
    return ServicePlan(name, "rollout", model, flags=(*flags, *chosen))
