"""Running means of the trained weights: teachers that follow the student slowly.

mean <- decay * mean + (1 - decay) * student        after every step, in f32, from the weights that the run begins with
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, no_grad

from preceptor.errors import Corrupt
from preceptor.recipes import Copy
from preceptor_student.masters import Masters
from preceptor_student.share import ALONE, Share

AVERAGES = "averages"


class Averages:
    """One mean for each copy of kind `ema`, over everything that the optimiser moves."""

    def __init__(self, copies: Mapping[str, Copy], masters: Masters, share: Share = ALONE) -> None:
        self._masters, self._share = masters, share
        self._decays = {name: copy.decay for name, copy in copies.items() if copy.decay is not None}
        self._means = {name: {key: one.detach().clone() for key, one in masters.named.items()} for name in self._decays}

    @no_grad()
    def follow(self) -> None:
        """One step towards the student."""
        for name, decay in self._decays.items():
            for key, mean in self._means[name].items():
                mean.mul_(decay).add_(self._masters.named[key], alpha=1 - decay)

    def of(self, name: str) -> Mapping[str, Tensor]:
        """One mean, under the names of the masters."""
        return self._means[name]

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
            mean.copy_(self._share.own_of(state[key], mean))
