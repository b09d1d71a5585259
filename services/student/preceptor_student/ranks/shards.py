"""A model over ranks: every decoder layer is gathered for its own forward and backward, the rest with the whole.

Gradients are summed over ranks, not averaged: a step's losses are already divided by the rows of its whole batch.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from preceptor.errors import Unsupported
from preceptor_student.ranks.group import Group
from preceptor_student.share import Forward, Share


class Shard(Share):
    """A rank's part of every tensor, cut by rows."""

    def __init__(self, group: Group, mesh: DeviceMesh) -> None:
        self.rank, self.ranks = group.rank, group.ranks
        self._group, self._mesh = group, mesh

    def place(self, model: PreTrainedModel) -> Forward:
        """The root stays gathered from a forward to its backward: the head is read between the two."""
        sharded = [fully_shard(layer, mesh=self._mesh) for layer in decoder_layers(model)]
        sharded.append(fully_shard(model, mesh=self._mesh, reshard_after_forward=False))
        for module in sharded:
            assert isinstance(module, FSDPModule), "fully_shard changes the module's class"
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
        model.base_states = types.MethodType(_base_states, model)  # pyright: ignore[reportArgumentType]
        register_fsdp_forward_method(model, "base_states")
        return model.base_states  # pyright: ignore[reportReturnType]

    def settle(self, model: PreTrainedModel) -> None:
        assert isinstance(model, FSDPModule), "place has sharded it"
        model.reshard()

    def together(self, plain: Any) -> list[Any]:
        return self._group.together(plain)

    def part(self, tensor: Tensor) -> Tensor | None:
        if isinstance(tensor, DTensor):
            return tensor.to_local().contiguous()
        return tensor if self.rank == 0 else None

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def own_of(self, whole: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor) or whole.shape != like.shape:
            return whole.clone()
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The model's repeated blocks; `Unsupported` where they are not `layers` of its base model."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise Unsupported("the model has no list of decoder layers to shard", field="model", value=type(model).__name__,
                          limit="base_model.layers", hint="train it in one process")  # fmt: skip
    return layers


def _base_states(self: PreTrainedModel, **inputs: Any) -> Any:
    return self.base_model(**inputs)
