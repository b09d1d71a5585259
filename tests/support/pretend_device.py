"""A device that is not there: tensors that say they are elsewhere, keep their numbers on the CPU, and do not mix with the CPU's.

What runs on it runs on an accelerator as far as places go: a tensor left behind, a number read without being fetched, an index
made at home is an error, as it would be there. Kernels are the CPU's, so results can be compared to the bit. Registered for the
whole process and for good: use it in a process of its own.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
aten = torch.ops.aten


class There(Tensor):
    """A tensor on the device; `at_home` has its numbers."""

    at_home: Tensor

    @staticmethod
    def __new__(cls, at_home: Tensor) -> There:
        layout = {"strides": at_home.stride(), "storage_offset": at_home.storage_offset(), "dtype": at_home.dtype}
        return Tensor._make_wrapper_subclass(cls, at_home.shape, device=torch.device(NAME, 0), **layout)  # pyright: ignore

    def __init__(self, at_home: Tensor) -> None:
        self.at_home = at_home

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}))


class Pretending(TorchDispatchMode):
    """While it is entered, tensors can be made on the device and moved to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _copy(into: Tensor, source: Tensor, *_: Any) -> Tensor:
    _home(into).copy_(_home(source))
    return into


FETCHES = {aten._local_scalar_dense.default, aten.equal.default}
"""Their result is a number at home."""

OF_ITS_OWN: Mapping[Any, Callable[..., Any]] = {
    aten.copy_.default: _copy,
    aten._fused_sdp_choice.default: lambda *_, **__: 0,  # attention in plain products: there are no fused kernels here
}
INDICES_FROM_HOME = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    elsewhere = any(isinstance(one, There) for one in tensors)
    if elsewhere and func in OF_ITS_OWN:
        return OF_ITS_OWN[func](*args, **kwargs)
    if elsewhere and func is not aten._to_copy.default:
        _check(func, args if func in INDICES_FROM_HOME else tensors)
    lands = elsewhere and func not in FETCHES
    if kwargs.get("device") is not None:
        lands = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = torch.device("cpu")
    found = func(*tree_map_only(Tensor, _home, tuple(args)), **tree_map_only(Tensor, _home, kwargs))
    if not lands:
        return found
    found = tree_map_only(Tensor, There, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if elsewhere else found


def _check(func: Any, given: Sequence[Any]) -> None:
    """A number without dimensions may come from home, and so may indices."""
    odd = [one for one in given if isinstance(one, Tensor) and not isinstance(one, There) and one.dim()]
    if odd:
        raise RuntimeError(f"{func}: a tensor of shape {tuple(odd[0].shape)} is on the CPU and the others on {NAME}")


def _home(tensor: Tensor) -> Tensor:
    return tensor.at_home if isinstance(tensor, There) else tensor
