"""A folder on disk to a model that is ready to score: checked, digested, and compared with its own logits."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preceptor.errors import ConfigurationError
from preceptor.types import ModelRef
from preceptor_serving.digests import template_sha256, tokenizer_sha256, tokenizer_size
from preceptor_serving.models.folder import folder_sha256
from preceptor_serving.models.head import output_layer
from preceptor_serving.models.load import load_tokenizer, max_tokens
from preceptor_serving.models.versions import VersionLoader
from preceptor_teacher.engines.hf.options import HfOptions
from preceptor_teacher.engines.hf.probe import check_attention, check_causal, measure_noise, why_no_states
from preceptor_teacher.readout import Head

log = logging.getLogger("preceptor.engine")


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


def load_model(options: HfOptions, loader: VersionLoader, folder: Path, ref: ModelRef | None) -> LoadedModel:
    """The model of a folder. Without a `ref` its manifest digest is computed from the folder's files."""
    model = loader.load(folder, ref)
    tokenizer = load_tokenizer(loader.tokenizer_folder(folder, ref))
    head = head_of(model, tokenizer_size(tokenizer))
    noise_nats = measure_noise(model, head, options.dtype)
    check_attention(model, head, options.dtype)
    check_causal(model, head, options.dtype)
    no_states = why_no_states(model, head, options.dtype)
    if no_states is not None:
        log.warning("%s is scored without growing states and without deterministic mode: %s", options.name, no_states)
    return LoadedModel(
        ref=ref or ModelRef(options.name, manifest_sha256=folder_sha256(folder)),
        base=model.base_model,
        config=model.config,
        head=head,
        head_sha256=head.sha256(),
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer),
        max_tokens=max_tokens(model.config, options.max_sequence_tokens),
        noise_floor_nats=noise_nats,
        keeps_states=no_states is None,
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
