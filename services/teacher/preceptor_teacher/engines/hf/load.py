"""A folder on disk to a model that is ready to score: checked, digested, and compared with its own logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from preceptor.errors import ConfigurationError
from preceptor.types import ModelRef
from preceptor_serving.digests import template_sha256, tokenizer_sha256, tokenizer_size
from preceptor_serving.models.folder import folder_sha256
from preceptor_serving.models.head import output_layer
from preceptor_serving.models.load import load_causal_lm, load_tokenizer, max_tokens
from preceptor_teacher.engines.hf.options import HfOptions
from preceptor_teacher.readout import Head

PROBE_TOKENS = 48
MAX_NOISE_NATS = {"f32": 1e-3, "bf16": 0.25, "f16": 0.05}  # beyond it the head is not what we take it for


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One version of the weights, on its device."""

    ref: ModelRef
    base: nn.Module
    config: Any
    head: Head
    head_sha256: bytes
    tokenizer_sha256: bytes
    template_sha256: bytes
    max_tokens: int
    noise_floor_nats: float
    keeps_states: bool

    @property
    def device(self) -> torch.device:
        return self.head.weight_vh.device


def load_model(options: HfOptions, folder: Path, ref: ModelRef | None) -> LoadedModel:
    """The model of a folder. Without a `ref` its manifest digest is computed from the folder's files."""
    model = load_causal_lm(folder, options.dtype, options.device)
    tokenizer = load_tokenizer(folder)
    head = head_of(model, tokenizer_size(tokenizer))
    return LoadedModel(
        ref=ref or ModelRef(options.name, manifest_sha256=folder_sha256(folder)),
        base=model.base_model,
        config=model.config,
        head=head,
        head_sha256=head.sha256(),
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer),
        max_tokens=max_tokens(model.config, options.max_sequence_tokens),
        noise_floor_nats=measure_noise(model, head, options.dtype),
        keeps_states=_keeps_states(model),
    )


def head_of(model: Any, tokens: int) -> Head:
    """The output projection and what the model's configuration does to its logits."""
    output = output_layer(model)
    layer = output.layer
    if tokens > layer.weight.shape[0]:
        raise ConfigurationError(
            "the tokenizer has more ids than the head has rows", field="tokenizer", value=tokens, limit=layer.weight.shape[0]
        )
    bias = None if layer.bias is None else layer.bias.detach().float()
    return Head(layer.weight.detach(), tokens, bias, output.scale, output.soft_cap)


@torch.inference_mode()
def measure_noise(model: Any, head: Head, dtype: str) -> float:
    """Largest difference in nats between our log-probabilities and the model's own, on fixed ids: the noise floor.

    A model whose head does more than we know differs by whole nats, and is refused instead of being scored wrongly.
    """
    count = min(PROBE_TOKENS, getattr(model.config, "max_position_embeddings", None) or PROBE_TOKENS)
    ids = (torch.arange(count, device=head.weight_vh.device)[None] * 7919) % head.tokenizer_size
    theirs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    ours = head.logits(states).log_softmax(-1)
    likely = theirs > -20.0  # far below, a 16-bit logit of theirs says nothing
    noise = (theirs - ours)[likely].abs().max().item()
    if not noise <= MAX_NOISE_NATS[dtype]:
        raise ConfigurationError(
            "the model's logits are not its head applied to its hidden states",
            field="model",
            value=f"{noise:.3g} nats apart",
            limit=f"<= {MAX_NOISE_NATS[dtype]} nats",
            hint="this architecture changes its logits in a way that the hf engine does not know",
        )
    return noise


@torch.inference_mode()
def _keeps_states(model: Any) -> bool:
    """True where keys and values of every token are all that a prefix leaves behind, so that it can be cut and joined."""
    probe = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
    cache = model.base_model(input_ids=probe, use_cache=True).past_key_values
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer) is transformers.cache_utils.DynamicLayer for layer in layers)
