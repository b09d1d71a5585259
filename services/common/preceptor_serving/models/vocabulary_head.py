"""The vocabulary head: hidden states to f32 logits, whatever the dtype of the weights.

Shapes: n rows, h hidden size, v rows of the head.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

WIDEN_BLOCK_BYTES = 8 << 20
DIGEST_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """logits = soft_cap * tanh((states @ weight.T + bias) * scale / soft_cap), with f32 accumulation.

    A tied head is simply the embedding's weight. Rows from `tokenizer_size` on are padding: they take part in the
    softmax and are never returned.
    """

    weight_vh: Tensor
    tokenizer_size: int
    bias_v: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    @property
    def rows(self) -> int:
        return self.weight_vh.shape[0]

    def logits(self, states_nh: Tensor, into: Tensor | None = None) -> Tensor:
        """[n, v] in f32 that the caller may overwrite, written `into` a plane of at least n rows where one is given."""
        logits_nv = self._product(states_nh, into)
        if self.bias_v is not None:
            logits_nv += self.bias_v
        if self.scale != 1.0:
            logits_nv *= self.scale
        if self.soft_cap is not None:
            logits_nv.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return logits_nv

    def _product(self, states_nh: Tensor, into: Tensor | None) -> Tensor:
        weight = self.weight_vh
        # A large fresh plane costs a CPU as much to be mapped in as to be filled, and a device a second one beside the last.
        plane_nv = states_nh.new_empty(len(states_nh), self.rows, dtype=torch.float32) if into is None else into[: len(states_nh)]
        if weight.dtype == torch.float32:
            return torch.mm(states_nh.float(), weight.T, out=plane_nv)
        if not weight.is_cpu and states_nh.dtype == weight.dtype:
            return torch.mm(states_nh, weight.T, out_dtype=torch.float32, out=plane_nv)
        return self._product_in_blocks(states_nh.float(), plane_nv)

    def _product_in_blocks(self, states_nh: Tensor, into_nv: Tensor) -> Tensor:
        """Widens a block of the weight at a time: a CPU product of 16-bit operands would round its result to 16 bits."""
        step = max(1, WIDEN_BLOCK_BYTES // (4 * self.weight_vh.shape[1]))
        wide = states_nh.new_empty(min(step, self.rows), self.weight_vh.shape[1])
        for start in range(0, self.rows, step):
            block = self.weight_vh[start : start + step]
            torch.mm(states_nh, wide[: len(block)].copy_(block).T, out=into_nv[:, start : start + step])
        return into_nv

    def sha256(self) -> bytes:
        """Names this head: two heads of one digest turn equal states into equal logits."""
        digest = hashlib.sha256(f"{self.weight_vh.dtype} {tuple(self.weight_vh.shape)} {self.scale} {self.soft_cap}".encode())
        for tensor in (self.weight_vh, self.bias_v):
            for block in () if tensor is None else tensor.detach().split(DIGEST_BLOCK_ROWS):
                digest.update(block.contiguous().cpu().view(torch.uint8).numpy().data)
        return digest.digest()
