"""The student's own head: the only place where its logits come from, a few rows at a time.

Shapes: n rows, h hidden size, v rows of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from preceptor.errors import ConfigurationError
from preceptor_serving.models.head import output_layer
from preceptor_serving.models.temperature import tempered

PROBE_TOKENS = 32
MAX_NOISE_NATS = 1e-3


@dataclass(frozen=True, slots=True)
class Head:
    """Weights that carry gradients, and what stands between their product and the log-probabilities."""

    weight_vh: Tensor
    bias_v: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None
    temperature: float = 1.0

    @property
    def rows(self) -> int:
        return self.weight_vh.shape[0]

    def product(self, states_nh: Tensor) -> Tensor:
        """The linear part: a fresh [n, v] in f32 or wider."""
        logits_nv = torch.nn.functional.linear(states_nh, self.weight_vh, self.bias_v)
        return logits_nv if logits_nv.dtype == torch.float64 else logits_nv.float()

    def log_probs(self, product_nv: Tensor) -> Tensor:
        """Log-probabilities over the whole head at the recipe's temperature."""
        logits_nv = product_nv if self.scale == 1.0 else product_nv * self.scale
        if self.soft_cap is not None:
            logits_nv = self.soft_cap * (logits_nv / self.soft_cap).tanh()
        return tempered(logits_nv, self.temperature).log_softmax(-1)


def head_of(model: Any, temperature: float = 1.0) -> Head:
    """The model's head; its tensors are the model's own parameters."""
    output = output_layer(model)
    return Head(output.layer.weight, output.layer.bias, output.scale, output.soft_cap, temperature)


@torch.no_grad()
def check_head(model: Any) -> None:
    """`ConfigurationError` where the model's logits are not its head applied to its last hidden states.

    Such a model would be trained on log-probabilities that it never draws from.
    """
    head = head_of(model)
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or PROBE_TOKENS
    ids = (torch.arange(min(PROBE_TOKENS, most), device=model.device)[None] * 7919) % head.rows
    theirs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    ours = head.log_probs(head.product(model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]))
    noise = (theirs - ours).abs().max().item()
    if not noise <= MAX_NOISE_NATS:
        raise ConfigurationError(
            "the model's logits are not its head applied to its hidden states",
            field="model",
            value=f"{noise:.3g} nats apart",
            limit=f"<= {MAX_NOISE_NATS} nats",
            hint="this architecture changes its logits in a way that the student does not know",
        )
