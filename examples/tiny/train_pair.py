"""Trains the bundled teacher and student from scratch, and the reader from the student: `python -m examples.tiny.train_pair`."""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from examples.tiny import task, tokenizer
from examples.tiny.decode import MODEL_DIRS, accuracy, load_model, responses, text_of
from examples.tiny.try_views import under
from examples.tiny.views import VIEWS

FAULT_SHARE = 0.3
"""Share of the teacher's examples with one wrong character put into them: a teacher that scores a student's
own tokens must know how to go on after a mistake, which clean examples never show."""

BARE_SHARE, BARE_EXAMPLES = 0.3, 4096
"""Of the reader's examples: how many have no view, and of how many sums."""
HARDEST = "answer"
"""The view that the reader learns last: it is shown twice as often as the others."""

Example = tuple[list[int], list[int]]
"""Ids, and the same ids as targets with IGNORED where nothing is to be learned."""
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model of the pair is made."""

    build: Callable[[], PreTrainedModel]
    examples: Callable[[], Iterator[Example]]
    steps: int
    batch: int
    peak_lr: float
    seed: int
    threads: int  # part of the result: another count sums in another order


def _sizes(width: int, layers: int) -> dict[str, Any]:
    """Config fields that both models share; heads of 32, the smallest that fast attention kernels take."""
    return {
        "vocab_size": tokenizer.VOCAB_SIZE,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "num_key_value_heads": width // 32,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.BOS_ID,
        "eos_token_id": tokenizer.EOS_ID,
        "pad_token_id": tokenizer.PAD_ID,
        "use_cache": True,
    }


def build_teacher() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**_sizes(128, 4)))


def build_student() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_sizes(96, 3)))


def example(prompt: str, response: str, ignored: int | None = None) -> Example:
    """A prompt with its response; the prompt and the response character at `ignored` are context only."""
    head, body = tokenizer.prompt_ids(prompt), [*tokenizer.text_ids(response), tokenizer.EOS_ID]
    targets = [IGNORED] * len(head) + body
    if ignored is not None:
        targets[len(head) + ignored] = IGNORED
    return head + body, targets


def faulty(problem: task.Problem, draw: random.Random, prompt: str) -> Example:
    """A worked response with one wrong digit, and what follows from it: later carries and the answer take the written sums."""
    wrong_at, wrong = draw.randrange(9 * task.DIGITS - 1), str(draw.randrange(10))
    text, carry, ones = "", 0, ""
    for x, y, _ in problem.columns:
        text = _write(text, f"{x}+{y}+{carry}=", wrong_at, wrong)
        total = sum(int(text[i]) for i in (-6, -4, -2))
        text = _write(text, f"{total:02d}", wrong_at, wrong)
        carry, ones = int(text[-2]), text[-1] + ones
        text += " "
    answer = (str(carry) if carry else "") + ones
    return example(prompt, text + answer, ignored=wrong_at)


def _write(text: str, more: str, wrong_at: int, wrong: str) -> str:
    """The text with more behind it; if `wrong_at` falls on a digit of it, that digit is the wrong one."""
    at = wrong_at - len(text)
    if 0 <= at < len(more) and more[at].isdigit():
        more = more[:at] + wrong + more[at + 1 :]
    return text + more


def teacher_examples() -> Iterator[Example]:
    """All sums of the training split, half of them hard, some with a mistake to go on from."""
    draw, easy, hard = random.Random(1), task.problems("train", 1, level="easy"), task.problems("train", 1, level="hard")
    while True:
        problem = next(hard if draw.random() < 0.5 else easy)
        yield worked(problem, draw, problem.prompt)


def worked(problem: task.Problem, draw: random.Random, prompt: str) -> Example:
    """A right response to a prompt that states this problem, or one that goes on from a mistake."""
    return faulty(problem, draw, prompt) if draw.random() < FAULT_SHARE else example(prompt, problem.worked)


def student_examples() -> Iterator[Example]:
    """Easy sums of the training split alone."""
    return (example(problem.prompt, problem.worked) for problem in task.problems("train", 2, level="easy"))


def reader_examples() -> Iterator[Example]:
    """All sums of the training split: bare ones answered as the student answers them, those under views as the teacher does."""
    draw, habits = random.Random(3), student_draws(task.unique(_mixed(5), BARE_EXAMPLES))
    for problem in _mixed(4):
        if draw.random() < BARE_SHARE:
            yield example(*draw.choice(habits))
        else:
            view = VIEWS[draw.choice((*VIEWS, HARDEST))]
            yield worked(problem, draw, view(problem, draw))


def _mixed(seed: int) -> Iterator[task.Problem]:
    """Sums of the training split, easy and hard in turn."""
    easy, hard = task.problems("train", seed, level="easy"), task.problems("train", seed, level="hard")
    return (problem for both in zip(easy, hard, strict=True) for problem in both)


def student_draws(problems: Sequence[task.Problem]) -> list[tuple[str, str]]:
    """Bare prompts, each with a response that the committed student draws; responses without an end are left out."""
    generator = torch.Generator().manual_seed(6)
    ids = torch.tensor([tokenizer.prompt_ids(problem.prompt) for problem in problems])
    drawn = responses(load_model("student"), ids, lambda BV: torch.multinomial(BV.softmax(-1), 1, generator=generator)[:, 0])
    return [(one.prompt, text_of(row)) for one, row in zip(problems, drawn, strict=True) if row[-1] == tokenizer.EOS_ID]


PLANS = {
    "teacher": Plan(build_teacher, teacher_examples, steps=800, batch=128, peak_lr=2e-3, seed=1, threads=2),
    "student": Plan(build_student, student_examples, steps=600, batch=128, peak_lr=2e-3, seed=2, threads=1),
    "reader": Plan(lambda: load_model("student"), reader_examples, steps=450, batch=128, peak_lr=1e-3, seed=3, threads=1),
}


def collate(examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and targets, padded on the right: a causal model never sees the padding."""
    longest = max(len(ids) for ids, _ in examples)
    ids = torch.tensor([x + [tokenizer.PAD_ID] * (longest - len(x)) for x, _ in examples])
    targets = torch.tensor([y + [IGNORED] * (longest - len(y)) for _, y in examples])
    return ids, targets


def rate(step: int, plan: Plan) -> float:
    """Learning rate: a short warm-up, then a cosine to a tenth of a percent of the peak."""
    warmup = min(1.0, (step + 1) / 50)
    return plan.peak_lr * warmup * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))


def train(name: str, plan: Plan) -> PreTrainedModel:
    """The trained model; on one kind of machine, one plan gives one set of weights."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    model, stream, began = plan.build().train(), plan.examples(), time.monotonic()
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.peak_lr, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(plan.steps):
        ids, targets = collate([next(stream) for _ in range(plan.batch)])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = rate(step, plan)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == plan.steps - 1:
            report(name, model, step, loss.item(), time.monotonic() - began)
    return model.eval()


def report(name: str, model: PreTrainedModel, step: int, loss: float, elapsed_s: float) -> None:
    """One line of progress with greedy accuracy on 100 held-out hard sums and 100 easy ones of the training split."""
    hard = accuracy(model, task.load("heldout")[:100])
    easy = accuracy(model, task.unique(task.problems("train", 3, level="easy"), 100))
    read = " ".join(f"{view} {under(model, view, 100):.2f}" for view in VIEWS) if name == "reader" else ""
    print(f"{name} step {step:5d} loss {loss:.4f} hard {hard:.2f} easy {easy:.2f} {read} {elapsed_s:6.1f} s", flush=True)


def save(name: str, model: PreTrainedModel) -> None:
    """Weights as safetensors, config and tokenizer, in the model's folder."""
    model.save_pretrained(MODEL_DIRS[name])
    tokenizer.build().save_pretrained(MODEL_DIRS[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(PLANS), help="train this model alone")
    args = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    for name in [args.only] if args.only else PLANS:
        save(name, train(name, PLANS[name]))


if __name__ == "__main__":
    main()
