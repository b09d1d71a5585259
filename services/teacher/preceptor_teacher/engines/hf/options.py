"""What an `hf` engine can be told; `teachers.yaml` and flags end up here."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from preceptor_serving.engines.options import EngineOptions


class HfOptions(EngineOptions):
    """One model in one process."""

    called: ClassVar[str] = "hf"

    name: str
    """The name under which the model is served."""

    folder: Path
    """Folder with config.json, tokenizer.json and *.safetensors."""

    dtype: Literal["f32", "bf16", "f16"] = "f32"
    """Type of the weights and of the forward pass; log-probabilities are always computed in f32."""

    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1, ..."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of the engine; fixed, because the order of sums depends on it."""

    max_sequence_tokens: int | None = Field(default=None, ge=1)
    """Longest sequence; unset: what the model's configuration says."""

    batch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens of one forward pass; a longer sequence runs alone."""

    state_tokens: int = Field(default=65_536, ge=0)
    """Tokens whose keys and values are kept for growing tasks and shared prefixes; 0 keeps none."""

    max_versions: int = Field(default=2, ge=1)
    """Versions of the weights that are held at once."""

    max_topk: int = Field(default=4096, ge=0)
    """Largest k of a want."""

    max_candidates_per_row: int = Field(default=4096, ge=0)
    """Longest list of candidate ids of a row."""

    max_samples: int = Field(default=256, ge=0)
    """Most draws per row."""
