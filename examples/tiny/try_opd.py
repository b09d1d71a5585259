"""Distils the bundled pair in one process and prints held-out accuracy as it goes.

    python -m examples.tiny.try_opd --objective reverse_kl_tail --control none --steps 60

Run it from the repository's root: the loop is `tests/reference/opd_loop.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from transformers import PreTrainedModel

from examples.tiny import task
from examples.tiny.decode import MAX_RESPONSE_TOKENS, accuracy, greedy, load_model, text_of
from examples.tiny.tokenizer import prompt_ids
from tests.reference import opd_loop
from tests.reference.opd_loop import Objective, Rollouts, Settings

LEARNING_RATES = {"reverse_kl_tail": 3e-4, "k1_policy_gradient": 2e-4, "verbal": 1e-4}


def log_likelihood(student_BRV: Tensor, _teacher_BRV: Tensor, rollouts: Rollouts, _settings: Settings) -> Tensor:
    """Supervised fine-tuning on the response, whoever wrote it."""
    return -student_BRV.gather(-1, rollouts.response_BR[..., None])[..., 0]


@dataclass(slots=True)
class Permuted:
    """A control: the same objective with the teacher's rows of the batch in a random order, so that they say nothing."""

    inner: Objective
    generator: torch.Generator

    def __call__(self, student_BRV: Tensor, teacher_BRV: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        valid, mixed = rollouts.valid_BR, teacher_BRV.clone()
        order = torch.randperm(int(valid.sum()), generator=self.generator)
        mixed[valid] = teacher_BRV[valid][order]
        return self.inner(student_BRV, mixed, rollouts, settings)


@dataclass(slots=True)
class Verbal:
    """A grade of 0 to 10 for a whole response, compared within the group of its prompt: all that a black-box teacher gives.

    The grade is how many of the teacher's own pieces (three columns and the answer) the response has in the right place.
    `shuffled` is the control: the same grades, dealt to the wrong responses.
    """

    teacher: PreTrainedModel
    problems: list[task.Problem]
    generator: torch.Generator
    shuffled: bool

    def grades(self, rollouts: Rollouts) -> Tensor:
        indices = rollouts.prompts_B.unique().tolist()
        answers = greedy(self.teacher, [self.problems[i] for i in indices])
        pieces = {i: text_of(ids).split(" ") for i, ids in zip(indices, answers, strict=True)}
        wanted = [pieces[i] for i in rollouts.prompts_B.tolist()]
        written = [
            text_of(ids[valid].tolist()).split(" ") for ids, valid in zip(rollouts.response_BR, rollouts.valid_BR, strict=True)
        ]
        right = [sum(map(str.__eq__, ours, theirs)) for ours, theirs in zip(written, wanted, strict=True)]
        return torch.tensor([round(10 * n / len(theirs)) for n, theirs in zip(right, wanted, strict=True)])

    def __call__(self, student_BRV: Tensor, teacher_BRV: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        grades = self.grades(rollouts).float()
        if self.shuffled:
            grades = grades[torch.randperm(len(grades), generator=self.generator)]
        groups = grades.view(-1, settings.samples_per_prompt)
        advantage = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, correction=0, keepdim=True) + 1.0)
        return advantage.view(-1, 1) * log_likelihood(student_BRV, teacher_BRV, rollouts, settings)


def objective_of(args: argparse.Namespace, teacher: PreTrainedModel, problems: list[task.Problem]) -> Objective:
    """The loss that the options name; SFT reads what the teacher wrote, whatever the objective."""
    generator = torch.Generator().manual_seed(args.seed)
    if args.control == "sft":
        return log_likelihood
    if args.objective == "verbal":
        return Verbal(teacher, problems, generator, shuffled=args.control == "permuted")
    inner: Objective = getattr(opd_loop, args.objective)
    return Permuted(inner, generator) if args.control == "permuted" else inner


def batches(problems: Sequence[task.Problem], size: int) -> Iterator[dict[int, list[int]]]:
    """`size` prompts at a time in the order of the data, without end: index -> ids."""
    for first in count(step=size):
        chosen = [i % len(problems) for i in range(first, first + size)]
        yield {i: prompt_ids(problems[i].prompt) for i in chosen}


def settings_of(args: argparse.Namespace) -> Settings:
    return Settings(
        seed=args.seed,
        samples_per_prompt=args.samples,
        max_response_tokens=MAX_RESPONSE_TOKENS,
        learning_rate=args.lr or LEARNING_RATES[args.objective],
        decay_steps=args.steps,
        teacher_writes=args.control == "sft",
    )


def run(args: argparse.Namespace, say: Callable[[str], None] = print) -> list[float]:
    """Held-out accuracy of the student at the start and after every `--every` steps."""
    teacher, student = load_model("teacher").requires_grad_(False), load_model("student")
    heldout, problems = task.load("heldout")[: args.heldout], task.load("distil")
    shift = args.seed * 1009 % len(problems)
    problems = problems[shift:] + problems[:shift]  # another seed, other prompts first
    curve = [accuracy(student, heldout)]
    say(f"teacher {accuracy(teacher, heldout):.3f}  student at the start {curve[0]:.3f}")
    objective = objective_of(args, teacher, problems)
    loop = opd_loop.distil(student, teacher, batches(problems, args.prompts), objective, settings_of(args))
    spent_s = 0.0
    for step in range(1, args.steps + 1):
        began = time.perf_counter()
        metrics = next(loop)
        spent_s += time.perf_counter() - began
        if step % args.every == 0 or step == args.steps:
            curve.append(accuracy(student, heldout))
            numbers = " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            say(f"step {step:4d}  held-out {curve[-1]:.3f}  {numbers}  {spent_s / step:.3f} s/step")
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objective", choices=list(LEARNING_RATES), default="reverse_kl_tail")
    parser.add_argument("--control", choices=["none", "permuted", "sft"], default="none")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=64, help="prompts per step")
    parser.add_argument("--samples", type=int, default=1, help="rollouts per prompt")
    parser.add_argument("--lr", type=float, help="learning rate at the first step, from where it falls to 0 in a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heldout", type=int, default=256, help="held-out problems to test on")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    run(args)


if __name__ == "__main__":
    main()
