"""Random teachers of a given shape, saved as a model folder with a tokenizer of as many ids as the head has rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HEAD_SIZE = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the cost of a token."""

    hidden: int
    layers: int
    vocabulary: int
    max_tokens: int = 1024
    tied: bool = True

    def __str__(self) -> str:
        return f"random Qwen3, h {self.hidden}, {self.layers} layers, vocabulary {self.vocabulary:,}"


def save_random_qwen3(folder: Path, shape: Shape, seed: int = 0, **more: Any) -> Path:
    """The folder, with weights large enough for peaked rows, as those of a trained model are. `more`: of its configuration."""
    torch.manual_seed(seed)
    heads = max(1, shape.hidden // HEAD_SIZE)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=HEAD_SIZE,
        max_position_embeddings=shape.max_tokens,
        tie_word_embeddings=shape.tied,
        initializer_range=0.1,
        **more,
    )
    Qwen3ForCausalLM(config).eval().save_pretrained(folder)
    word_tokenizer(shape.vocabulary).save_pretrained(folder)
    return folder


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """One word for each id."""
    vocabulary = {f"w{number}": number for number in range(size)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0")))
