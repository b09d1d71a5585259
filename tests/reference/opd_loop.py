"""On-policy distillation in one process: the oracle that the services are compared with.

Shapes: B rollouts, P prompt tokens, R response rows, V vocabulary. Row r is the distribution of response token r. Prompts of
one step have one length; rows after a rollout's EOS are invalid.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel as Model

from tests.reference.philox import uniform


@dataclass(frozen=True, slots=True)
class Settings:
    seed: int = 0
    samples_per_prompt: int = 1
    max_response_tokens: int = 40
    top_k: int = 8
    learning_rate: float = 3e-4
    decay_steps: float = torch.inf  # step s has the rate (1 - s / decay_steps) * learning_rate, and never less than 0
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-6  # far above f32 noise in a gradient, so that two correct programs take the same first steps
    max_grad_norm: float = 1.0
    teacher_writes: bool = False  # the off-policy control: the teacher generates and the student only reads


@dataclass(frozen=True, slots=True)
class Rollouts:
    prompts_B: Tensor  # index of each rollout's prompt; sorted by (prompt, sample)
    prompt_ids_BP: Tensor
    response_BR: Tensor  # EOS included
    valid_BR: Tensor
    top_ids_BRk: Tensor  # the student's top-k when it drew the token
    logged_BR: Tensor | None = None  # the token's log-probability when it was drawn


Objective = Callable[[Tensor, Tensor, Rollouts, Settings], Tensor]  # student, teacher [B, R, V] -> loss per row [B, R]
Prompts = dict[int, list[int]]  # index in the data -> ids
Guided = Callable[[Model, Model, Prompts, int, Settings], Rollouts]  # draws in the student's place, or both together
LossOf = Callable[[Prompts, int], Tensor]  # prompts of a step, its number from 0 -> its loss


@torch.no_grad()
def generate(model: Model, prompts: Prompts, step: int, settings: Settings, first_sample: int = 0) -> Rollouts:
    """`samples_per_prompt` rollouts of each prompt at temperature 1, by inverse CDF in float64 and id order."""
    samples = range(first_sample, first_sample + settings.samples_per_prompt)
    keys = torch.tensor([(p, s) for p in sorted(prompts) for s in samples])
    prompt_ids = ids = torch.tensor([prompts[p] for p in keys[:, 0].tolist()])
    past, alive_B, columns = None, torch.ones(len(ids), dtype=torch.bool), []
    for position in range(settings.max_response_tokens):
        out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past, log_probs_BV = out.past_key_values, out.logits[:, -1].log_softmax(-1)
        mass_BV = log_probs_BV.double().exp().cumsum(-1)
        u_B = torch.from_numpy(uniform(settings.seed, step, keys[:, 0].numpy(), keys[:, 1].numpy(), position))
        token_B = torch.searchsorted(mass_BV, (u_B * mass_BV[:, -1])[:, None], right=True)[:, 0]
        logged_B = log_probs_BV.gather(-1, token_B[:, None])[:, 0]
        columns.append((token_B, alive_B, log_probs_BV.topk(settings.top_k).indices, logged_B))
        alive_B = alive_B & (token_B != model.config.eos_token_id)
        ids = token_B[:, None]
        if not alive_B.any():
            break
    return Rollouts(keys[:, 0], prompt_ids, *(torch.stack(column, 1) for column in zip(*columns, strict=True)))


def score(model: Model, rollouts: Rollouts) -> Tensor:
    """Log-probabilities over the whole head of every response row, [B, R, V]."""
    ids = torch.cat([rollouts.prompt_ids_BP, rollouts.response_BR[:, :-1]], 1)
    return model(input_ids=ids, use_cache=False, logits_to_keep=rollouts.response_BR.shape[1]).logits.log_softmax(-1)


def reverse_kl_tail(student_BRV: Tensor, teacher_BRV: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """KL(student || teacher) per row on teacher top-k, student top-k and the sampled token; all else is one tail bucket."""
    ids = torch.cat([teacher_BRV.topk(settings.top_k).indices, rollouts.top_ids_BRk, rollouts.response_BR[..., None]], -1)
    support = torch.zeros_like(teacher_BRV, dtype=torch.bool).scatter(-1, ids, value=True)
    student_tail, teacher_tail = (x.masked_fill(support, -torch.inf).logsumexp(-1) for x in (student_BRV, teacher_BRV))
    inside = (student_BRV.exp() * (student_BRV - teacher_BRV) * support).sum(-1)
    return inside + student_tail.exp() * (student_tail - teacher_tail)


def k1_policy_gradient(student_BRV: Tensor, teacher_BRV: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
    """Each sampled token's log-probability weighted by its detached advantage, log teacher - log student."""
    student, teacher = (x.gather(-1, rollouts.response_BR[..., None])[..., 0] for x in (student_BRV, teacher_BRV))
    return -(teacher - student).detach() * student


def descend(student: Model, batches: Iterable[Prompts], loss_of: LossOf, settings: Settings) -> Iterator[dict[str, float]]:
    """Trains the student in place, a step for each batch of prompts: the loss and the gradient norm before clipping."""
    rate, betas, epsilon = settings.learning_rate, settings.betas, settings.epsilon
    optimizer = torch.optim.AdamW(student.parameters(), rate, betas, epsilon, weight_decay=0.0)
    for step, prompts in enumerate(batches):
        loss = loss_of(prompts, step)
        optimizer.param_groups[0]["lr"] = rate * max(0.0, 1 - step / settings.decay_steps)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), settings.max_grad_norm)
        optimizer.step()
        yield {"loss": loss.item(), "grad_norm": norm.item()}


def distil(
    student: Model,
    teacher: Model,
    batches: Iterable[Prompts],
    objective: Objective,
    settings: Settings,
    guided: Guided | None = None,
) -> Iterator[dict[str, float]]:
    """On-policy distillation: the loss of a step is the mean over the valid rows of the whole batch."""

    def loss_of(prompts: Prompts, step: int) -> Tensor:
        writer = teacher if settings.teacher_writes else student
        rollouts = guided(student, teacher, prompts, step, settings) if guided else generate(writer, prompts, step, settings)
        loss_BR = objective(score(student, rollouts), score(teacher, rollouts).detach(), rollouts, settings)
        return loss_BR[rollouts.valid_BR].sum() / rollouts.valid_BR.sum()

    return descend(student, batches, loss_of, settings)
