"""What a vllm generation engine can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from preceptor.config.settings import RolloutSettings
from preceptor_serving.vllm.options import REFUSED as REFUSED_BY_ALL
from preceptor_serving.vllm.options import VllmEngineOptions

REFUSED: dict[str, str] = REFUSED_BY_ALL | {
    "served_model_name": "the student's name is that of --model",
    "runner": "a student generates",
    "convert": "a student generates",
    "worker_extension_cls": "the draws are one, and there is room for one",
    "data_parallel_size": "run a rollout service for each replica",
    "async_scheduling": "a chunk is read when its last token is drawn, not a step later",
    "logprobs_mode": "log-probabilities come from where the token is drawn, both of them",
    "speculative_config": "what is accepted would not be drawn by its counter",
}


class VllmGenerationOptions(VllmEngineOptions):
    """One student in one engine core. Defaults are those of the service's settings."""

    refused: ClassVar[Mapping[str, str]] = REFUSED

    log_chunk_tokens: int = Field(default=RolloutSettings.model_fields["log_chunk_tokens"].default, ge=1)
    """New tokens of each rollout between two chunks."""

    max_versions: int = Field(default=RolloutSettings.model_fields["max_versions"].default, ge=1)
    """Adapters that are kept in memory beside each other, with `enable_lora`; of whole weights there is one version."""

    def with_adapters(self) -> VllmGenerationOptions:
        """The same, with room for as many adapters as versions, where they are enabled and nothing else is said."""
        if not self.engine_args.get("enable_lora"):
            return self
        room: dict[str, Any] = {"max_loras": self.max_versions, "max_cpu_loras": self.max_versions}
        return self.model_copy(update={"engine_args": {**room, **self.engine_args}})
