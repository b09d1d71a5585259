"""A model and its optimiser: made from a base, stepped, and turned into named tensors and back."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor

from preceptor.errors import Corrupt
from preceptor.recipes import ObjectiveSpec, RunConfig
from preceptor_student.averages import Averages
from preceptor_student.bases import Bases
from preceptor_student.batch import Item
from preceptor_student.masters import Masters
from preceptor_student.optimizer import Updater
from preceptor_student.policy import Policy, check_packing
from preceptor_student.teacher_heads import TeacherHeads
from preceptor_student.update import Outcome, evaluate, update


class Trainer:
    """Every weight or an adapter, in f32 or in bf16 beside f32 masters."""

    def __init__(self, bases: Bases, config: RunConfig, heads: TeacherHeads) -> None:
        self.config, self._heads = config, heads
        self.model = bases.model_for(config)
        self.policy = Policy(self.model, packed=config.training.layout == "packed")
        if self.policy.packed:
            check_packing(self.policy)
        self._masters = Masters(self.model)
        self.updater = Updater(self._masters, config.optimizer)
        self.averages = Averages(config.copies, self._masters)

    @property
    def head_rows(self) -> int:
        return self.policy.head_rows

    @property
    def is_adapter(self) -> bool:
        return self.config.training.lora is not None

    def step(
        self, objective: ObjectiveSpec, step: int, micro_batches: Sequence[Sequence[Item]]
    ) -> Generator[None, None, Outcome]:
        """One update; pauses after each micro-batch."""
        outcome = yield from update(self.policy, self.updater, objective, step, micro_batches, self._heads.get)
        self.averages.follow()
        return outcome

    def evaluate(self, objective: ObjectiveSpec, step: int, items: Sequence[Item]) -> Outcome:
        """The loss of a step on these items, as the weights are."""
        return evaluate(self.policy, objective, step, items, self._heads.get)

    def weights(self) -> dict[str, Tensor]:
        """What training moves, each once, tied ones under their first name; with the buffers of a whole model."""
        return {name: one.detach() for name, one in self._masters.named.items()} | self._buffers()

    @torch.no_grad()
    def restore(
        self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor], averages: Mapping[str, Tensor]
    ) -> None:
        """Takes over what `weights` and the `state` of the updater and the averages gave, to the bit."""
        own = self.weights()
        if odd := sorted(own.keys() ^ weights.keys()):
            raise Corrupt(f"the checkpoint is of another model: {odd[0]}", field="model.safetensors", value=odd[0])
        for name, tensor in own.items():
            tensor.copy_(weights[name])
        self._masters.write_back()
        self.updater.restore(optimizer_state)
        self.averages.restore(averages)

    def _buffers(self) -> dict[str, Tensor]:
        """None of a frozen base's: nothing of it is kept."""
        kept = {} if self.is_adapter else self.model.state_dict(keep_vars=True)
        return {name: buffer for name, buffer in self.model.named_buffers() if name in kept}
