"""What every engine over vLLM can be told: a few names of ours, and vLLM's own engine arguments under their own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean
from preceptor_serving.engines.options import EngineOptions
from preceptor_serving.models.folder import Dtype
from preceptor_serving.vllm.arguments import installed_arguments

DATA_PARALLEL = tuple(
    f"data_parallel_{name}"
    for name in (
        *("size", "rank", "start_rank", "size_local", "address", "rpc_port", "backend"),
        *("hybrid_lb", "external_lb", "multi_port_external_lb"),
    )
)
REFUSED: dict[str, str] = {
    "model": "the folder says which model it is",
    "tokenizer": "ids come in and ids go out: vLLM needs no tokenizer",
    "tokenizer_mode": "ids come in and ids go out: vLLM needs no tokenizer",
    "skip_tokenizer_init": "it is always on",
    "trust_remote_code": "a model that brings its own code is refused",
    "load_format": "weights are safetensors",
    "prefill_context_parallel_size": "each worker would have the hidden states of a part of a sequence's tokens",
    **dict.fromkeys(("nnodes", "node_rank", "master_addr", "master_port"), "an engine's workers are on its own machine"),
    **dict.fromkeys(DATA_PARALLEL, "an engine is one replica of its model"),
}
"""Engine arguments of vLLM that no engine can do with, and why."""


class VllmEngineOptions(EngineOptions):
    """One model in one engine core."""

    called: ClassVar[str] = "vllm"
    refused: ClassVar[Mapping[str, str]] = REFUSED
    """Engine arguments that cannot be set, and why; an engine adds its own."""

    name: str
    """The name under which the model is served."""

    folder: Path
    """Folder with config.json, tokenizer.json and *.safetensors."""

    dtype: Dtype = "bf16"
    """Type of the weights and of the forward pass; log-probabilities are always computed in f32."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of the engine's process."""

    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of vLLM's engine; in a configuration they stand beside the others, under their own names."""

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Options from a configuration; the first wrong one is named."""
        ours = {name: value for name, value in options.items() if name in cls.model_fields and name != "engine_args"}
        theirs = {name: value for name, value in options.items() if name not in ours}
        known = installed_arguments() - cls.model_fields.keys()
        for name, value in theirs.items():
            if name in cls.refused:
                raise _wrong(name, value, f"vLLM's {name} cannot be set: {cls.refused[name]}")
            if name not in known:
                hint = did_you_mean(name, [*cls.model_fields, *(known - cls.refused.keys())])
                raise _wrong(name, value, f"neither the vllm engine nor vLLM has an option {name}", hint)
        return super().from_mapping({**ours, "engine_args": theirs})


def _wrong(field: str, value: object, message: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError(message, field=field, value=value, hint=hint)
