"""A model and its optimiser: loaded from a folder, stepped, and turned into named tensors and back."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from preceptor.errors import Corrupt
from preceptor.recipes import ObjectiveSpec, Optimizer
from preceptor_serving.models.load import load_causal_lm
from preceptor_student import optimizer as adamw
from preceptor_student.batch import Item
from preceptor_student.head import check_head
from preceptor_student.update import Outcome, update

OPTIMIZER_STATE = ("exp_avg", "exp_avg_sq", "step")


class Trainer:
    """Full training in f32. Evaluation mode throughout: no dropout between what is drawn and what is trained."""

    def __init__(self, base: Path, config: Optimizer) -> None:
        self.config = config
        self.model: PreTrainedModel = load_causal_lm(base, "f32", "cpu").requires_grad_(requires_grad=True)
        check_head(self.model)
        self.optimizer = adamw.build(self.model, config)

    @property
    def head_rows(self) -> int:
        return self.model.config.get_text_config().vocab_size

    def step(
        self, objective: ObjectiveSpec, step: int, micro_batches: Sequence[Sequence[Item]]
    ) -> Generator[None, None, Outcome]:
        """One update; pauses after each micro-batch."""
        return update(self.model, self.optimizer, self.config, objective, step, micro_batches)

    def weights(self) -> dict[str, Tensor]:
        """Every parameter once, tied ones under their first name, and the buffers that belong to the model."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()} | self._buffers()

    def optimizer_state(self) -> dict[str, Tensor]:
        """`moment/parameter` -> tensor; empty before the first update."""
        names = dict(self._named())
        return {
            f"{part}/{name}": self.optimizer.state[parameter][part]
            for name, parameter in names.items()
            if parameter in self.optimizer.state
            for part in OPTIMIZER_STATE
        }

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor], optimizer_state: dict[str, Tensor]) -> None:
        """Takes over what `weights` and `optimizer_state` gave, to the bit."""
        own = self.weights()
        _check_names(own.keys(), weights.keys())
        for name, tensor in own.items():
            tensor.copy_(weights[name])
        self.optimizer.state.clear()
        named = dict(self._named())
        for key, tensor in optimizer_state.items():
            part, _, name = key.partition("/")
            if name not in named or part not in OPTIMIZER_STATE:
                raise Corrupt(f"the optimiser has no state {key!r}", field="optimizer.safetensors", value=key)
            self.optimizer.state[named[name]][part] = tensor.clone()

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]

    def _buffers(self) -> dict[str, Tensor]:
        kept = self.model.state_dict(keep_vars=True)
        return {name: buffer for name, buffer in self.model.named_buffers() if name in kept}


def _check_names(own: object, stored: object) -> None:
    odd = sorted(set(own) ^ set(stored))  # pyright: ignore[reportArgumentType]
    if odd:
        raise Corrupt(f"the checkpoint is of another model: {odd[0]}", field="model.safetensors", value=odd[0])
