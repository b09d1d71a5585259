"""What a generation engine can be told; the service's settings end up here."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from preceptor.config.settings import RolloutSettings
from preceptor_serving.engines.options import EngineOptions
from preceptor_serving.models.folder import Dtype


class GenerationOptions(EngineOptions):
    """One student in one process. Defaults are those of the service's settings."""

    called: ClassVar[str] = "generation"

    name: str
    """The name of the student in every `ModelRef`."""

    folder: Path
    """The student at the start: config.json, tokenizer.json and *.safetensors."""

    dtype: Dtype = RolloutSettings.model_fields["dtype"].default
    """Type of the weights and of the forward pass; log-probabilities are always computed in f32."""

    device: str = RolloutSettings.model_fields["device"].default
    """Where the student runs: cpu, cuda, cuda:1, ..."""

    threads: int = Field(default=RolloutSettings.model_fields["threads"].default, ge=1, le=1024)
    """CPU threads of the engine; fixed, because the order of sums depends on it."""

    max_sequence_tokens: int | None = Field(default=None, ge=1)
    """Longest sequence; unset: what the model's configuration says."""

    log_chunk_tokens: int = Field(default=RolloutSettings.model_fields["log_chunk_tokens"].default, ge=1)
    """New tokens of each rollout between two chunks."""

    batch_tokens: int = Field(default=RolloutSettings.model_fields["batch_tokens"].default, ge=1)
    """Tokens of cache that a unit takes at most; more of its sequences wait for room."""

    max_versions: int = Field(default=RolloutSettings.model_fields["max_versions"].default, ge=1)
    """Versions of the weights that are kept in memory; those that running groups still use are not counted."""
