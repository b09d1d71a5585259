"""A model over ranks: every decoder layer is gathered for its own forward and backward, the rest with the whole.

Gradients are summed over ranks, not averaged: a step's losses are already divided by the rows of its whole batch. What is trained
in bf16 is kept in f32 and gathered in bf16, so the parts are the masters, and sums over ranks are f32. What is frozen is cut as
it is, once for all runs over it.
"""

from __future__ import annotations

import gc
import types
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch import float32 as f32
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from preceptor.errors import Unsupported
from preceptor_student.ranks.group import Group
from preceptor_student.share import Forward, Share


class Shard(Share):
    """A rank's part of every tensor, cut by rows."""

    holds_bases = False

    def __init__(self, group: Group, mesh: DeviceMesh) -> None:
        self.rank, self.ranks = group.rank, group.ranks
        self._group, self._mesh = group, mesh
        self._frozen: WeakValueDictionary[tuple[torch.dtype, str], nn.Parameter] = WeakValueDictionary()

    def place(self, model: PreTrainedModel) -> Forward:
        """The root stays gathered from a forward to its backward: the head is read between the two."""
        kind, layers = trained_kind(model), decoder_layers(model)
        for module in layers:
            self._cut(module, kind)
        self._cut(model, kind, reshard_after_forward=False)
        for module in (*layers, model):
            assert isinstance(module, FSDPModule), "fully_shard changes the module's class"
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
        model.base_states = types.MethodType(_base_states, model)  # pyright: ignore[reportArgumentType]
        register_fsdp_forward_method(model, "base_states")
        self._share_frozen(model)
        return model.base_states  # pyright: ignore[reportReturnType]

    def free(self) -> None:
        """Frees the runs that were closed: a model that was cut refers to itself."""
        gc.collect()

    def settle(self, model: PreTrainedModel) -> None:
        assert isinstance(model, FSDPModule), "place has sharded it"
        model.reshard()

    def apart(self) -> AbstractContextManager[None]:
        return self._group.apart()

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

    def _cut(self, module: nn.Module, kind: torch.dtype, *, reshard_after_forward: bool = True) -> None:
        """What is trained is f32 from here on, a module at a time, and of its former kind while it is gathered."""
        for one in module.parameters():
            if one.requires_grad:
                one.data = one.data.to(f32)
        gathered = MixedPrecisionPolicy() if kind == f32 else MixedPrecisionPolicy(kind, f32, cast_forward_inputs=False)
        fully_shard(module, mesh=self._mesh, reshard_after_forward=reshard_after_forward, mp_policy=gathered)

    def _share_frozen(self, model: PreTrainedModel) -> None:
        """Lets go of this model's parts of a base that another run has parts of."""
        own = {name: one for name, one in model.named_parameters(remove_duplicate=False) if not one.requires_grad}
        shared = {name: self._frozen.setdefault((one.dtype, name.replace(".base_layer", "")), one) for name, one in own.items()}
        model.load_state_dict(shared, strict=False, assign=True)


def trained_kind(model: PreTrainedModel) -> torch.dtype:
    """The dtype of everything that is trained; `Unsupported` where there are several."""
    kinds = {one.dtype for one in model.parameters() if one.requires_grad}
    if len(kinds) != 1:
        raise Unsupported("ranks train weights of one kind", field="config_json.training.precision",
                          value=sorted(map(str, kinds)), limit="one dtype", hint="train it in one process")  # fmt: skip
    return kinds.pop()


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The model's repeated blocks; `Unsupported` where they are not `layers` of its base model."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise Unsupported("the model has no list of decoder layers to shard", field="model", value=type(model).__name__,
                          limit="base_model.layers", hint="train it in one process")  # fmt: skip
    return layers


def _base_states(self: PreTrainedModel, **inputs: Any) -> Any:
    return self.base_model(**inputs)
