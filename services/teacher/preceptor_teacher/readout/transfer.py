"""Arrays to a device and back without a wait for each: an accelerator waits for nobody between the first chunk and the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """The array there; on a CPU the very same memory."""
    plain = torch.from_numpy(values)
    # From pageable memory a copy would wait for everything that is queued on the device.
    return plain.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else plain.to(device)


def to_host(tensors: Sequence[Tensor | None]) -> list[NDArray[Any] | None]:
    """All of them, with one wait; None stays None."""
    device = next((tensor.device for tensor in tensors if tensor is not None and not tensor.is_cpu), None)
    if device is None:
        return [None if tensor is None else tensor.numpy() for tensor in tensors]
    hosts = [None if tensor is None else _pinned(tensor) for tensor in tensors]
    torch.cuda.current_stream(device).synchronize()
    return [None if host is None else host.numpy() for host in hosts]


def _pinned(tensor: Tensor) -> Tensor:
    """A copy on its way to memory of the host that the device itself can write to."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
