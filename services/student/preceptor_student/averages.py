"""Running means of the trained weights: teachers that follow the student slowly.

mean <- decay * mean + (1 - decay) * student        after every step, in f32, from the weights that the run begins with
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from torch import Tensor, no_grad

from preceptor.errors import Corrupt
from preceptor.recipes import Copy
from preceptor_student.masters import Masters

AVERAGES = "averages"


class Averages:
    """One mean for each copy of kind `ema`, over everything that the optimiser moves."""

    def __init__(self, copies: Mapping[str, Copy], masters: Masters) -> None:
        self._masters = masters
        self._decays = {name: copy.decay for name, copy in copies.items() if copy.decay is not None}
        self._means = {name: {key: one.detach().clone() for key, one in masters.named.items()} for name in self._decays}

    @no_grad()
    def follow(self) -> None:
        """One step towards the student."""
        for name, decay in self._decays.items():
            for key, mean in self._means[name].items():
                mean.mul_(decay).add_(self._masters.named[key], alpha=1 - decay)

    @contextmanager
    def worn(self, name: str) -> Generator[None]:
        """The model has the mean's weights for the length of the block, and every bit of its own afterwards."""
        own = {key: one.detach().clone() for key, one in self._masters.named.items()}
        self._masters.take(self._means[name])
        try:
            yield
        finally:
            self._masters.take(own)

    def state(self) -> dict[str, Tensor]:
        """`copy/parameter` -> tensor; empty where no copy is a mean."""
        return {f"{name}/{key}": mean for name, means in self._means.items() for key, mean in means.items()}

    @no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave, to the bit."""
        own = self.state()
        if odd := sorted(own.keys() ^ state.keys()):
            raise Corrupt(f"the checkpoint has other means: {odd[0]}", field=f"{AVERAGES}.safetensors", value=odd[0])
        for key, mean in own.items():
            mean.copy_(state[key])
