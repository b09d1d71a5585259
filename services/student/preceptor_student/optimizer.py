"""AdamW over a model's masters: one clipped update, its rate at each step, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from preceptor.errors import Corrupt, InvalidArgument
from preceptor.recipes import Optimizer, at_step
from preceptor_student.masters import Masters
from preceptor_student.share import ALONE, Share

STATE = ("exp_avg", "exp_avg_sq", "step")


class Updater:
    """One group with every trainable parameter, in the model's own order."""

    def __init__(self, masters: Masters, config: Optimizer, share: Share = ALONE) -> None:
        self._masters, self._config, self._share = masters, config, share
        self._adamw = torch.optim.AdamW(
            list(masters.named.values()), lr=0.0, betas=config.betas, eps=config.epsilon, weight_decay=config.weight_decay,
            foreach=False,
        )  # fmt: skip
        self.is_halfway = False  # some weights have moved and others not: whoever finds it so after an error drops them all

    def rate_at(self, step: int) -> float:
        """The ramp's value at the step, times the warm-up."""
        warm = min(1.0, step / self._config.warmup_steps) if self._config.warmup_steps else 1.0
        return at_step(self._config.learning_rate, step) * warm

    def clear(self) -> None:
        """Forgets gradients that were gathered."""
        self._adamw.zero_grad(set_to_none=True)

    def apply(self, step: int) -> float:
        """Clips, steps, and returns the norm before clipping. A gradient that is not finite is refused before anything moves."""
        limit = self._config.max_grad_norm if self._config.max_grad_norm is not None else math.inf
        masters = list(self._masters.named.values())
        total = self._share.whole(torch.nn.utils.get_total_norm([one.grad for one in masters if one.grad is not None]))
        torch.nn.utils.clip_grads_with_norm_(masters, limit, total)
        norm = float(total)
        if not math.isfinite(norm):
            self.clear()
            raise InvalidArgument(
                f"step {step} has a gradient that is not finite; the weights were not touched", field="micro_batches", value=norm
            )
        for group in self._adamw.param_groups:
            group["lr"] = self.rate_at(step)
        self.is_halfway = True
        with self._share.apart():
            self._adamw.step()
        self._masters.write_back()
        self.is_halfway = False
        return norm

    def state(self) -> dict[str, Tensor]:
        """`moment/parameter` -> tensor; empty before the first update."""
        kept = self._adamw.state
        return {f"{part}/{name}": kept[one][part] for name, one in self._masters.named.items() if one in kept for part in STATE}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave, to the bit."""
        self._adamw.state.clear()
        for key, tensor in state.items():
            part, _, name = key.partition("/")
            if name not in self._masters.named or part not in STATE:
                raise Corrupt(f"the optimiser has no state {key!r}", field="optimizer.safetensors", value=key)
            master = self._masters.named[name]
            counted = part == "step"  # which AdamW reads on the host, wherever the weights are
            self._adamw.state[master][part] = tensor.clone() if counted else self._share.own_of(tensor, master)
