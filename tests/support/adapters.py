"""LoRA adapters on disk, as peft writes them, and the same models with the adapter in their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

RANK, ALPHA = 4, 8
WEIGHTS = "adapter_model.safetensors"
MODULES = ("q_proj", "v_proj")


def save_adapter(base: Path, folder: Path, seed: int, rank: int = RANK, head: bool = False) -> Path:
    """Random, over the attention of a model whose heads all have keys of their own; `head`: and over its vocabulary head."""
    config: Any = AutoConfig.from_pretrained(base, local_files_only=True)
    width, inner = config.hidden_size, config.num_attention_heads * config.head_dim
    shapes = {f"layers.{layer}.self_attn.{name}": inner for layer in range(config.num_hidden_layers) for name in MODULES}
    numbers, tensors = np.random.default_rng(seed), {}
    for name, rows in shapes.items():
        tensors[f"base_model.model.model.{name}.lora_A.weight"] = numbers.normal(0, 0.3, (rank, width)).astype(np.float32)
        tensors[f"base_model.model.model.{name}.lora_B.weight"] = numbers.normal(0, 0.3, (rows, rank)).astype(np.float32)
    if head:
        tensors["base_model.model.lm_head.lora_A.weight"] = numbers.normal(0, 0.3, (rank, width)).astype(np.float32)
        tensors["base_model.model.lm_head.lora_B.weight"] = numbers.normal(0, 0.3, (config.vocab_size, rank)).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS)
    written = {"peft_type": "LORA", "r": rank, "lora_alpha": ALPHA, "target_modules": list(MODULES), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def merged(base: Path, adapter: Path, to: Path) -> Path:
    """The base with the adapter in its weights."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    tensors = load_file(adapter / WEIGHTS)
    for name, parameter in model.named_parameters():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            change = tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
            parameter.data += ALPHA / RANK * torch.from_numpy(change)
    model.save_pretrained(to)
    return to
