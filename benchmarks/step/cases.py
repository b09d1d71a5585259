"""The pair, the prompts and the lengths that both sides work on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PROMPTS, PROMPT_WORDS = 32, 32
SHORTEST, LONGEST = 16, 256
TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"
HEAD_SIZE = 64
END, PADDING = 1, 2


@dataclass(frozen=True, slots=True)
class Size:
    """What decides the cost of a token."""

    hidden: int
    layers: int
    vocabulary: int

    def __str__(self) -> str:
        return f"random Qwen3, h {self.hidden}, {self.layers} layers, vocabulary {self.vocabulary:,}"


STUDENT, TEACHER = Size(256, 4, 16_384), Size(512, 6, 16_384)


def lengths_of(steps: int, seed: int = 0) -> list[list[int]]:
    """How many tokens each rollout of each step has: log-uniform from 16 to 256."""
    rng = np.random.default_rng(seed)
    drawn = np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST + 1), (steps, PROMPTS)))
    return np.clip(drawn.astype(int), SHORTEST, LONGEST).tolist()


def save_pair(folder: Path) -> tuple[Path, Path]:
    """Student and teacher."""
    return _save(folder / "student", STUDENT, seed=0), _save(folder / "teacher", TEACHER, seed=1)


def that_ends(student: Path, folder: Path, mean_tokens: int) -> Path:
    """The student with so many ids that end a response that its rollouts have this length on average."""
    shutil.copytree(student, folder)
    ends = list(range(10, 10 + STUDENT.vocabulary // mean_tokens))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


def save_prompts(path: Path, steps: int, seed: int = 1) -> Path:
    """One line of random words for each rollout."""
    words = np.random.default_rng(seed).integers(10, STUDENT.vocabulary, (steps * PROMPTS, PROMPT_WORDS))
    lines = [json.dumps({"prompt": " ".join(f"w{word}" for word in row)}) for row in words.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _save(folder: Path, size: Size, seed: int) -> Path:
    torch.manual_seed(seed)
    heads = size.hidden // HEAD_SIZE
    config = Qwen3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=HEAD_SIZE,
        max_position_embeddings=1024,
        eos_token_id=END,
        pad_token_id=PADDING,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).eval().save_pretrained(folder)
    _tokenizer(size.vocabulary).save_pretrained(folder)
    return folder


def _tokenizer(size: int) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token=f"w{END}", pad_token=f"w{PADDING}")
    tokenizer.chat_template = TEMPLATE
    return tokenizer
