"""`python liger_side.py IN.npz OUT.npz`, run in Liger's own environment: its two fused linear JSDs for each beta, with gradients.

`chunked` is PyTorch alone, `triton` its kernels: on CUDA where there is one, else in Triton's interpreter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

ON_CUDA = torch.cuda.is_available()
if not ON_CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss  # noqa: E402  # pyright: ignore[reportMissingImports]
from liger_kernel.transformers import LigerFusedLinearJSD  # noqa: E402  # pyright: ignore[reportMissingImports]

CHUNK_ROWS = 16
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def chunked(given: Inputs, beta: float, temperature: float) -> Tensor:
    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, temperature=temperature, compiled=ON_CUDA, chunk_size=CHUNK_ROWS
    )
    return loss(*given, _labels(given))


def triton(given: Inputs, beta: float, temperature: float) -> Tensor:
    return LigerFusedLinearJSD(jsd_beta=beta, temperature=temperature)(*given, _labels(given))


def _labels(given: Inputs) -> Tensor:
    """Only masked where they are -100, so every row counts."""
    return torch.zeros(len(given[0]), dtype=torch.int64, device=given[0].device)


WAYS: dict[str, Callable[[Inputs, float, float], Tensor]] = {"chunked": chunked, "triton": triton}


def main(source: str, target: str) -> None:
    numbers = np.load(source)
    found: dict[str, np.ndarray] = {}
    for way, loss_of in WAYS.items():
        for beta in numbers["betas"].tolist():
            names = ("states", "weight", "teacher_states", "teacher_weight")
            given = [torch.from_numpy(numbers[name]).to("cuda" if ON_CUDA else "cpu") for name in names]
            states, weight = (one.requires_grad_() for one in given[:2])
            loss = loss_of((states, weight, given[2], given[3]), beta, float(numbers["temperature"]))
            loss.backward()
            outputs = {"loss": loss.detach(), "states": states.grad, "weight": weight.grad}
            found |= {f"{way} {beta} {name}": one.cpu().numpy() for name, one in outputs.items()}
    np.savez(target, allow_pickle=False, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
