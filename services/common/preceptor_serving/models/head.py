"""The output projection of a causal language model, and what its configuration does to the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from preceptor.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class OutputLayer:
    """logits = soft_cap * tanh(layer(states) * scale / soft_cap); without a cap only scaled."""

    layer: nn.Linear
    scale: float
    soft_cap: float | None


def output_layer(model: Any) -> OutputLayer:
    """The model's head, or `ConfigurationError` where it is no plain linear layer."""
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise ConfigurationError("the model has no linear vocabulary head", field="model", value=type(layer).__name__)
    config = model.config
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return OutputLayer(layer, scale, getattr(config, "final_logit_softcapping", None))
