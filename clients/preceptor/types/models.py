"""Names of weights, and what a model behind a name can do."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.codec import Grade


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA adapter over a base."""

    name: str
    manifest_sha256: bytes


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Exactly one version of one model's weights. `run` is empty for weights that no training run of ours made."""

    name: str
    run: str = ""
    epoch: int = 0
    step: int = 0
    manifest_sha256: bytes = b""
    adapter: AdapterRef | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine declares it can serve; a want beyond it is refused with the names of teachers that could."""

    sampled: bool = False
    max_topk: int = 0
    max_candidates_per_row: int = 0
    entropy: bool = False
    tail: bool = False
    max_samples: int = 0
    hidden: bool = False
    next: bool = False
    deterministic: bool = False
    streaming: bool = False
    grades: tuple[Grade, ...] = ()
    max_sequence_tokens: int = 0
    row_cost: float = 0.0
    several_versions: bool = False
    adapters: bool = False
    generate: bool = False
    judge: bool = False
    own_logprobs: bool = False
    echo_logprobs: bool = False
    structured_output: bool = False
    seeds: bool = False
    graders: tuple[str, ...] = ()
    stepping_graders: tuple[str, ...] = ()
    embeddings: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model behind a name: its digests, sizes, engine and capabilities."""

    model: ModelRef
    tokenizer_sha256: bytes
    template_sha256: bytes
    tokenizer_size: int
    head_rows: int
    dtype: str
    engine: str
    engine_version: str
    numerics_version: str
    capabilities: Capabilities
    head_sha256: bytes = b""
    aliases: tuple[str, ...] = ()
    noise_floor_nats: float | None = None
