"""A model and its optimiser: made from a base, stepped, and turned into named tensors and back."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from preceptor.errors import Corrupt, TooLarge
from preceptor.recipes import ObjectiveSpec, RunConfig
from preceptor_proto.v1 import student_pb2
from preceptor_serving.models.device import is_out_of_memory
from preceptor_student.averages import AVERAGES, Averages
from preceptor_student.bases import Bases
from preceptor_student.batch import Item, items_of
from preceptor_student.masters import Masters
from preceptor_student.optimizer import Updater
from preceptor_student.policy import Policy, check_packing
from preceptor_student.share import ALONE, Share
from preceptor_student.teacher_heads import TeacherHeads
from preceptor_student.update import Outcome, evaluate, update

MODEL, OPTIMIZER = "model", "optimizer"


class Trainer:
    """Every weight or an adapter, in f32 or in bf16 beside f32 masters."""

    def __init__(self, bases: Bases, config: RunConfig, heads: TeacherHeads, share: Share = ALONE) -> None:
        self.config, self._heads, self._share = config, heads, share
        self.model = bases.model_for(config, share.holds_bases)
        self.kind = self.model.dtype
        self._kinds = {name: one.dtype for name, one in self.model.state_dict().items()}
        self.policy = Policy(self.model, packed=config.training.layout == "packed")
        if self.policy.packed:
            check_packing(self.policy)
        self.policy = replace(self.policy, forward=share.place(self.model))
        self._masters = Masters(self.model)
        self.updater = Updater(self._masters, config.optimizer, share)
        self.averages = Averages(config.copies, self._masters, share)

    @property
    def head_rows(self) -> int:
        return self.policy.head_rows

    @property
    def is_adapter(self) -> bool:
        return self.config.training.lora is not None

    def step(self, objective: ObjectiveSpec, step: int, micro_batches: Sequence[bytes]) -> Generator[None, None, Outcome]:
        """One update from serialised micro-batches; pauses after each."""
        batches = [self._items(raw, f"micro_batches[{index}]") for index, raw in enumerate(micro_batches)]
        with self._fitting(batches):
            outcome = yield from update(self.policy, self.updater, objective, step, batches, self._heads.get, self._share)
        self.averages.follow()
        return outcome

    def evaluate(self, objective: ObjectiveSpec, step: int, batch: bytes) -> Outcome:
        """The loss of a step on a serialised micro-batch, as the weights are."""
        items = self._items(batch, "batch")
        with self._fitting([items]):
            outcome = evaluate(self.policy, objective, step, items, self._heads.get, self._share)
        self._share.settle(self.model)
        return outcome

    def save(self, folder: Path) -> None:
        """Writes everything that `load` needs, or this rank's part of it, into a folder that is there."""
        share = self._share
        suffix = f"-{share.rank:05}-of-{share.ranks:05}" if share.ranks > 1 else ""
        for name, tensors in ((MODEL, self.weights()), (OPTIMIZER, self.updater.state()), (AVERAGES, self.averages.state())):
            own = {key: part.cpu() for key, tensor in tensors.items() if (part := share.part(tensor)) is not None}
            if own or name != AVERAGES:
                save_file(own, folder / f"{name}{suffix}.safetensors")

    def load(self, folder: Path) -> None:
        """Takes over what `save` wrote, by however many ranks, to the bit."""
        self.restore(*(joined(folder, name) for name in (MODEL, OPTIMIZER, AVERAGES)))

    def whole_weights(self, mean: str = "") -> dict[str, Tensor]:
        """What a version holds, on the host: the model's state as narrow as it computes, or the adapter; of a mean if named.

        Every tensor is whole and tied ones are one tensor; ranks other than 0 keep nothing of it.
        """
        found: dict[int, Tensor] = {}
        means = self.averages.of(mean) if mean else {}
        state = self._masters.named if self.is_adapter else self.model.state_dict(keep_vars=True)
        for name, tensor in state.items():
            if id(tensor) not in found:  # a tied one has its mean under the first of its names
                whole = self._share.whole(means.get(name, tensor).detach().to(self._kinds[name])).cpu()
                found[id(tensor)] = whole if self._share.rank == 0 else whole.new_empty(0)
        return {name: found[id(tensor)] for name, tensor in state.items()}

    def close(self) -> None:
        """Says that the weights are no longer needed."""

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
            tensor.copy_(self._share.own_of(weights[name], tensor))
        self._masters.write_back()
        self.updater.restore(optimizer_state)
        self.averages.restore(averages)

    @contextmanager
    def _fitting(self, batches: Sequence[Sequence[Item]]) -> Iterator[None]:
        """`TooLarge` where the device has no memory for the work. Nothing has moved then, unless the optimiser is halfway."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_large(batches) from error

    def _too_large(self, batches: Sequence[Sequence[Item]]) -> TooLarge:
        device = self.model.device
        if self.updater.is_halfway:
            told = "the optimiser", "the run was closed: open it again, and it goes on from its durable step"
        else:
            told = "a micro-batch", "lower schedule.micro_batch_tokens, train in bf16 or an adapter, or open fewer runs at once"
        tokens = max((sum(len(item.ids) for item in batch) for batch in batches), default=0)
        return TooLarge(
            f"{told[0]} takes more memory than {device} has free", field="micro_batches", value=f"{tokens} tokens",
            limit=f"the free memory of {device}", hint=told[1],
        )  # fmt: skip

    def _items(self, raw: bytes, where: str) -> list[Item]:
        return items_of(student_pb2.MicroBatch.FromString(raw), self.head_rows, where)

    def _buffers(self) -> dict[str, Tensor]:
        """None of a frozen base's: nothing of it is kept."""
        kept = {} if self.is_adapter else self.model.state_dict(keep_vars=True)
        return {name: buffer for name, buffer in self.model.named_buffers() if name in kept}


def joined(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of all files of one kind: those that ranks have cut are their parts, in the order of the ranks."""
    whole = folder / f"{name}.safetensors"
    parts: dict[str, list[Tensor]] = {}
    for path in [whole] if whole.exists() else sorted(folder.glob(f"{name}-*-of-*.safetensors")):
        for key, tensor in load_file(path).items():
            parts.setdefault(key, []).append(tensor)
    return {key: cut[0] if len(cut) == 1 else torch.cat(cut) for key, cut in parts.items()}
