"""Greedy decoding of the bundled models in batches, and the accuracy it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from examples.tiny.task import Problem, is_correct
from examples.tiny.tokenizer import EOS_ID, FIRST_BYTE_ID, PAD_ID, prompt_ids

MAX_RESPONSE_TOKENS = 40
MODEL_DIRS = {name: Path(__file__).parent / name for name in ("teacher", "student", "reader")}


def load_model(name: str) -> PreTrainedModel:
    """A committed model, in f32 and evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(MODEL_DIRS[name], dtype=torch.float32, local_files_only=True).eval()


def bare(problem: Problem) -> str:
    """The prompt as it stands in the data."""
    return problem.prompt


def likeliest(logits_BV: Tensor) -> Tensor:
    return logits_BV.argmax(-1)


def greedy(model: PreTrainedModel, problems: Sequence[Problem], shown: Callable[[Problem], str] = bare) -> list[list[int]]:
    """Each problem's most likely response tokens, the EOS included where one came; `shown` is what the model reads."""
    prompts = [prompt_ids(shown(problem)) for problem in problems]
    answers = dict[int, list[int]]()
    for length in {len(prompt) for prompt in prompts}:
        alike = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        answers |= zip(alike, responses(model, torch.tensor([prompts[i] for i in alike]), likeliest), strict=True)
    return [answers[i] for i in range(len(prompts))]


@torch.no_grad()
def responses(model: PreTrainedModel, ids: Tensor, choose: Callable[[Tensor], Tensor]) -> list[list[int]]:
    """What follows prompts of one length when each token is chosen like this, the EOS included where one came."""
    past, open_rows, steps = None, torch.ones(len(ids), dtype=torch.bool), list[Tensor]()
    for _ in range(MAX_RESPONSE_TOKENS):
        out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = out.past_key_values
        token = choose(out.logits[:, -1]).where(open_rows, PAD_ID)
        steps.append(token)
        open_rows &= token != EOS_ID
        if not open_rows.any():
            break
        ids = token[:, None]
    rows = torch.stack(steps, 1).tolist()
    return [row[: row.index(EOS_ID) + 1] if EOS_ID in row else row for row in rows]


def text_of(response_ids: Sequence[int]) -> str:
    """The text of response tokens, specials left out."""
    return bytes(i - FIRST_BYTE_ID for i in response_ids if i >= FIRST_BYTE_ID).decode(errors="replace")


def accuracy(model: PreTrainedModel, problems: Sequence[Problem], shown: Callable[[Problem], str] = bare) -> float:
    """The share of problems whose greedy response ends with the right answer."""
    answers = zip(greedy(model, problems, shown), problems, strict=True)
    return sum(is_correct(text_of(ids), problem.answer) for ids, problem in answers) / len(problems)
