"""AdamW and its rate at each step."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from preceptor.recipes import Optimizer, at_step


def build(model: PreTrainedModel, config: Optimizer) -> torch.optim.AdamW:
    """One group with every trainable parameter, in the model's own order; `set_rate` gives the rate before each update."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        trainable, lr=0.0, betas=config.betas, eps=config.epsilon, weight_decay=config.weight_decay, foreach=False
    )


def rate_at(config: Optimizer, step: int) -> float:
    """The ramp's value at the step, times the warm-up."""
    warm = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    return at_step(config.learning_rate, step) * warm


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
