"""A model by its `config.json` alone: how many parameters it has, and what a token of its cache takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from preceptor.errors import ConfigurationError, Unsupported

DTYPE_BYTES = {"f32": 4, "bf16": 2, "f16": 2}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of the Llama family: attention with grouped heads, gated layers, or experts of these."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int
    tied: bool
    experts: int = 0
    expert_inner: int = 0
    has_qkv_bias: bool = False
    has_head_norms: bool = False

    @property
    def parameters(self) -> int:
        """All of them: embeddings, layers, norms, head."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * self._layer + self.hidden

    @property
    def _layer(self) -> int:
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        attention = self.hidden * (queries + 2 * keys) + queries * self.hidden
        attention += (queries + 2 * keys) * self.has_qkv_bias + 2 * self.head_width * self.has_head_norms
        dense = 3 * self.hidden * self.inner
        experts = self.experts * (3 * self.hidden * self.expert_inner + self.hidden)
        return attention + (experts or dense) + 2 * self.hidden

    def head_bytes(self, dtype: str) -> int:
        """The layer from hidden states to logits, tied or not."""
        return DTYPE_BYTES[dtype] * self.vocabulary * self.hidden

    def cache_bytes(self, tokens: float, dtype: str) -> float:
        """Keys and values of so many tokens."""
        return 2 * self.layers * self.kv_heads * self.head_width * DTYPE_BYTES[dtype] * tokens

    def adapter_parameters(self, rank: int) -> int:
        """Of adapters on every linear layer but the head: rank x (inputs + outputs) each."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        attention = 2 * (self.hidden + queries) + 2 * (self.hidden + keys)
        inner = self.experts * self.expert_inner if self.experts else self.inner
        return rank * self.layers * (attention + 3 * (self.hidden + inner))


def shape_of_folder(folder: Path) -> ModelShape:
    """Of a model folder; nothing but its `config.json` is read."""
    path = folder / "config.json"
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", field="model", value=str(folder)) from error
    return shape_of(cast(Mapping[str, Any], raw), str(path))


def shape_of(config: Mapping[str, Any], where: str) -> ModelShape:
    """Of a configuration; `Unsupported` where it is no decoder of this family, because a guess would be worse."""
    text: Mapping[str, Any] = config.get("text_config") or config
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        experts = int(text.get("num_experts") or text.get("num_local_experts") or 0)
        return ModelShape(
            hidden=hidden,
            layers=int(text["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_width=int(text.get("head_dim") or hidden // heads),
            inner=int(text["intermediate_size"]),
            vocabulary=int(text["vocab_size"]),
            tied=bool(text.get("tie_word_embeddings", False)),
            experts=experts,
            expert_inner=int(text.get("moe_intermediate_size") or text["intermediate_size"]) if experts else 0,
            has_qkv_bias=bool(text.get("attention_bias", text.get("model_type") == "qwen2")),
            has_head_norms=str(text.get("model_type", "")).startswith("qwen3"),
        )
    except KeyError as error:
        raise Unsupported(
            f"{where} does not say {error.args[0]}: its size cannot be worked out from its configuration",
            field="model",
            value=str(config.get("model_type", "")),
            hint="plan with a model of the Llama family, or measure",
        ) from None
