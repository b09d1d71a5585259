"""What part of a step one process computes: everything, or its share where several ranks hold one model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

Forward = Callable[..., Any]


class Share:
    """All of it: one process with a whole model."""

    rank = 0
    ranks = 1
    holds_bases = True
    """Whether frozen models stay in memory whole, for the adapters to come."""

    def place(self, model: PreTrainedModel) -> Forward | None:
        """Lays the model out; what gives the states before its head where that is not the base model itself."""
        return None

    def settle(self, model: PreTrainedModel) -> None:
        """Frees what a forward without a backward has left gathered."""

    def apart(self) -> AbstractContextManager[None]:
        """Around work in which one rank may fail while the others wait for it."""
        return nullcontext()

    def together(self, plain: Any) -> list[Any]:
        """What every rank has to say, as JSON has it, in the order of the ranks."""
        return [plain]

    def part(self, tensor: Tensor) -> Tensor | None:
        """This rank's rows of a tensor; None of one that another rank writes."""
        return tensor

    def whole(self, tensor: Tensor) -> Tensor:
        """All rows of a tensor, on every rank."""
        return tensor

    def own_of(self, whole: Tensor, like: Tensor) -> Tensor:
        """A copy of a whole tensor, laid out as `like` is."""
        return whole.to(like.device, copy=True)


ALONE = Share()
