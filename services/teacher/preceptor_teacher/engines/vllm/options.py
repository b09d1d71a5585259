"""What a `vllm` engine can be told: a few names of ours, and vLLM's own engine arguments under their own names."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from vllm import EngineArgs

from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean

REFUSED: dict[str, str] = {
    "model": "the folder says which model it is",
    "tokenizer": "ids come in and ids go out: vLLM needs no tokenizer",
    "tokenizer_mode": "ids come in and ids go out: vLLM needs no tokenizer",
    "skip_tokenizer_init": "it is always on",
    "served_model_name": "the teacher's name is the key of its entry",
    "trust_remote_code": "a model that brings its own code is refused",
    "load_format": "weights are safetensors",
    "runner": "a teacher scores prompts",
    "convert": "a teacher scores prompts",
    "worker_extension_cls": "the readout is one, and there is room for one",
    "data_parallel_size": "run a teacher process for each replica: workers of one queue share its work",
    "kv_transfer_config": "states behind a cache that others filled would be missing",
    "speculative_config": "a teacher draws no tokens",
}
"""Engine arguments of vLLM that would break what an engine has to do, and why."""


class VllmOptions(BaseModel):
    """One model in one engine core."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """The name under which the model is served."""

    folder: Path
    """Folder with config.json, tokenizer.json and *.safetensors."""

    dtype: Literal["f32", "bf16", "f16"] = "bf16"
    """Type of the weights and of the forward pass; log-probabilities are always computed in f32."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of the engine's process."""

    max_topk: int = Field(default=4096, ge=0)
    """Largest k of a want."""

    max_candidates_per_row: int = Field(default=4096, ge=0)
    """Longest list of candidate ids of a row."""

    max_samples: int = Field(default=256, ge=0)
    """Most draws per row."""

    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of vLLM's engine; in a teachers file they stand beside the others, under their own names."""

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Options from a configuration; the first wrong one is named."""
        ours = {name: value for name, value in options.items() if name in cls.model_fields and name != "engine_args"}
        theirs = {name: value for name, value in options.items() if name not in ours}
        known = {field.name for field in dataclasses.fields(EngineArgs)} - cls.model_fields.keys()
        for name, value in theirs.items():
            if name in REFUSED:
                raise _wrong(name, value, f"vLLM's {name} cannot be set: {REFUSED[name]}")
            if name not in known:
                hint = did_you_mean(name, [*cls.model_fields, *(known - REFUSED.keys())])
                raise _wrong(name, value, f"neither the vllm engine nor vLLM has an option {name}", hint)
        try:
            return cls.model_validate({**ours, "engine_args": theirs})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise _wrong(field, first.get("input", ""), f"the vllm engine's option {field}: {first['msg']}") from error


def _wrong(field: str, value: object, message: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError(message, field=field, value=value, hint=hint)
