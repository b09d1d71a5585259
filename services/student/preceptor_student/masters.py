"""What the optimiser moves: f32 tensors. Those of an f32 model are its parameters; a narrower parameter has an f32 master.

The gradient of a narrower parameter is added to its master's as soon as autograd has it, so that sums over micro-batches, the
clipped norm and the moments are f32, and no second set of narrow gradients stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn, no_grad
from torch import float32 as f32


class Masters:
    """Every trainable parameter of a model by its name, in the model's order."""

    def __init__(self, model: nn.Module) -> None:
        trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.named = {name: one if one.dtype == f32 else one.detach().to(f32) for name, one in trained.items()}
        self._narrow = [(one, self.named[name]) for name, one in trained.items() if self.named[name] is not one]
        for parameter, master in self._narrow:
            parameter.register_post_accumulate_grad_hook(_adding_to(master))

    @no_grad()
    def write_back(self) -> None:
        """Rounds the masters into the model."""
        for parameter, master in self._narrow:
            parameter.copy_(master)


def _adding_to(master: Tensor) -> Callable[[Tensor], None]:
    def add(parameter: Tensor) -> None:
        assert parameter.grad is not None, "the hook runs after a gradient has come"
        wide = parameter.grad.to(f32)
        master.grad = wide if master.grad is None else master.grad.add_(wide)
        parameter.grad = None

    return add
