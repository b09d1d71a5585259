"""The bundled student in an engine, and a random one with a padded head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from examples.tiny import tokenizer as tiny_tokenizer
from preceptor_rollout.engine import GenerationEngine
from tests.unit.preceptor_rollout.drawing import engine_over

HEAD_ROWS = tiny_tokenizer.VOCAB_SIZE + 11


@pytest.fixture(scope="session")
def engine() -> GenerationEngine:
    return engine_over()


@pytest.fixture(scope="session")
def padded_folder(tmp_path_factory) -> Path:
    """Random weights whose head has rows beyond the tokenizer, and likes them."""
    folder = tmp_path_factory.mktemp("models") / "padded"
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=HEAD_ROWS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=tiny_tokenizer.EOS_ID,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tiny_tokenizer.build().save_pretrained(folder)
    return folder
