"""Rollouts that student and teacher draw together, one sequence and one whole forward pass a token: the oracle of policies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel as Model

from tests.reference.opd_loop import Prompts, Rollouts, Settings
from tests.reference.philox import philox4x32, uniform

WHOLE, TEACHER = 0xFFFFFFFF, 0x74656163
Choose = Callable[[Tensor, Tensor, float, float, int], int]  # student, teacher [V], their two numbers, step -> token


def drawn(log_probs_V: Tensor, u: float) -> int:
    mass_V = log_probs_V.double().exp().cumsum(-1)
    return int(torch.searchsorted(mass_V, u * mass_V[-1], right=True))


def speculative(student_V: Tensor, teacher_V: Tensor, u: float, teacher_u: float, step: int) -> int:
    proposal = drawn(student_V, u)
    return proposal if proposal in teacher_V.topk(3).indices.tolist() else drawn(teacher_V, teacher_u)


def trust_region(student_V: Tensor, teacher_V: Tensor, u: float, teacher_u: float, step: int) -> int:
    student_V, teacher_V, radius = student_V.double(), teacher_V.double(), 0.1 * (1 - step / 20)

    def path(share: float) -> Tensor:
        return ((1 - share) * student_V + share * teacher_V).log_softmax(-1)

    def fits(share: float) -> bool:
        return bool((path(share).exp() * (path(share) - student_V)).sum() <= radius)

    low, high = (1.0, 1.0) if fits(1.0) else (0.0, 1.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return drawn(path(low), u)


def teacher_number(seed: int, step: int, prompt: int, position: int) -> float:
    """What a teacher draws row `position` of sample 0 with: keyed by a seed that is drawn for the rollout as a whole."""
    key = philox4x32([WHOLE, 0, prompt, step], [seed & 0xFFFFFFFF, seed >> 32])
    high, low = (int(word) for word in philox4x32([0, position, 0, TEACHER], [int(key[1]), int(key[0])])[:2])
    return ((high << 21) | (low >> 11)) * 2.0**-53


@torch.no_grad()
def generate(choose: Choose, student: Model, teacher: Model, prompts: Prompts, step: int, settings: Settings) -> Rollouts:
    """One rollout of each prompt."""
    order = sorted(prompts)
    shape = (len(order), settings.max_response_tokens)
    response_BR, valid_BR = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    top_BRk = torch.zeros(*shape, settings.top_k, dtype=torch.int64)
    for row, prompt in enumerate(order):
        ids = list(prompts[prompt])
        for position in range(settings.max_response_tokens):
            both = [model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1) for model in (student, teacher)]
            u = float(uniform(settings.seed, step, prompt, 0, position))
            token = choose(both[0], both[1], u, teacher_number(settings.seed, step, prompt, position), step)
            response_BR[row, position], valid_BR[row, position] = token, True
            top_BRk[row, position] = both[0].topk(settings.top_k).indices
            ids.append(token)
            if token == student.config.eos_token_id:
                break
    longest = int(valid_BR.sum(-1).max())
    prompt_ids = torch.tensor([prompts[prompt] for prompt in order])
    return Rollouts(torch.tensor(order), prompt_ids, response_BR[:, :longest], valid_BR[:, :longest], top_BRk[:, :longest])
