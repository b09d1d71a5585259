"""Small models on disk for tests: random weights, with the bundled pair's tokenizer and a padded head."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from examples.tiny import tokenizer as tiny_tokenizer

TOKENS = tiny_tokenizer.VOCAB_SIZE
HEAD_ROWS = TOKENS + 11
BUNDLED_TEACHER = Path(__file__).parents[2] / "examples" / "tiny" / "teacher"
SHAPE = {
    "vocab_size": HEAD_ROWS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def save(model, folder: Path) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer.build().save_pretrained(folder)
    return folder


def random_llama(seed: int, **changes) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SHAPE, "initializer_range": 0.3, **changes})).eval()


def random_sliding(seed: int) -> MistralForCausalLM:
    """A model that forgets what left its window: no prefix of it can be kept."""
    torch.manual_seed(seed)
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)).eval()
