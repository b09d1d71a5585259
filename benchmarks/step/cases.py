"""The pair, the prompts and the lengths that both sides work on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.scoring.models import Shape, save_random_qwen3

PROMPTS, PROMPT_WORDS = 32, 32
SHORTEST, LONGEST = 16, 256
TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"
END, PADDING = 1, 2
NAMED = {END: "<end>", PADDING: "<padding>"}  # no part of any word: a special token is cut out of whatever holds it
STUDENT, TEACHER = Shape(256, 4, 16_384, tied=False), Shape(512, 6, 16_384, tied=False)


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


def _save(folder: Path, shape: Shape, seed: int) -> Path:
    save_random_qwen3(folder, shape, seed, eos_token_id=END, pad_token_id=PADDING, bos_token_id=None)
    tokenizer_of(shape.vocabulary).save_pretrained(folder)
    return folder


def tokenizer_of(size: int) -> PreTrainedTokenizerFast:
    """One token for each word of a prompt."""
    words = Tokenizer(models.WordLevel({NAMED.get(number, f"w{number}"): number for number in range(size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", eos_token=NAMED[END], pad_token=NAMED[PADDING])
    tokenizer.chat_template = TEMPLATE
    return tokenizer
