"""Functions of whole rows of the head in bounded memory: a few rows of logits exist at a time, and again in the backward pass.

Forward computes each chunk without a graph; backward computes its logits again, differentiates through that chunk alone and adds
to the gradients of states and head. Beside these nothing of rows x vocabulary is ever kept.
Shapes: n rows, h hidden size, v rows of the head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from preceptor_student.head import Head

CPU_CHUNK_BYTES = 8 << 20  # of logits; up to twenty such planes stand on the heap at once
CUDA_CHUNK_BYTES = 256 << 20


class Reader(Protocol):
    """What is read of each row. Every output has one entry for each of the rows that it covers, in order."""

    def sizes(self, count: int) -> Sequence[int]:
        """How many of `count` rows each output covers: the differentiable ones, then the observed ones."""
        ...

    def differentiable(self, log_probs_nv: Tensor, rows: slice) -> Sequence[Tensor]:
        """Outputs that carry a gradient, of these rows."""
        ...

    def observed(self, log_probs_nv: Tensor, rows: slice) -> Sequence[Tensor]:
        """Outputs that carry none; computed once, without a graph."""
        ...


def read_chunked(states_nh: Tensor, head: Head, reader: Reader, chunk_rows: int | None = None) -> tuple[Tensor, ...]:
    """All outputs of the reader over all rows: the differentiable ones, then the observed ones."""
    step = chunk_rows or _chunk_rows(head, states_nh.device)
    outputs: Any = _Chunked.apply(head, reader, step, states_nh, head.weight_vh, head.bias_v)
    return outputs


def _chunk_rows(head: Head, device: torch.device) -> int:
    budget = CUDA_CHUNK_BYTES if device.type == "cuda" else CPU_CHUNK_BYTES
    return max(1, budget // (4 * head.rows))


def _chunks(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, max(count, 1), step))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, head: Head, reader: Reader, step: int, states_nh: Tensor, *weights: Tensor | None) -> Any:
        columns = [_Column(size) for size in reader.sizes(len(states_nh))]
        carrying = 0
        for rows in _chunks(len(states_nh), step):
            log_probs_nv = head.log_probs(head.product(states_nh[rows]))
            found = reader.differentiable(log_probs_nv, rows)
            carrying = len(found)
            for column, part in zip(columns, (*found, *reader.observed(log_probs_nv, rows)), strict=True):
                column.add(part)
        ctx.head, ctx.reader, ctx.step = head, reader, step
        ctx.lengths = [column.lengths for column in columns[:carrying]]
        outputs = tuple(column.whole() for column in columns)
        ctx.save_for_backward(states_nh, *weights)
        ctx.mark_non_differentiable(*outputs[carrying:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        states_nh, weight_vh, bias_v = ctx.saved_tensors
        wanted = dict(zip(("states", "weight", "bias"), ctx.needs_input_grad[3:], strict=True))
        d_states = torch.zeros_like(states_nh) if wanted["states"] else None
        sums = torch.promote_types(weight_vh.dtype, torch.float32)  # over all chunks; autograd rounds once, at the end
        d_weight = torch.zeros_like(weight_vh, dtype=sums) if wanted["weight"] else None
        d_bias = torch.zeros_like(bias_v, dtype=sums) if wanted["bias"] else None
        carrying = zip(gradients, ctx.lengths, strict=False)
        by_chunk = zip(*(gradient.split(lengths) for gradient, lengths in carrying), strict=True)
        for rows, above in zip(_chunks(len(states_nh), ctx.step), by_chunk, strict=True):
            d_product_nv = _through(ctx.head, ctx.reader, states_nh[rows], rows, above)
            if d_states is not None:
                torch.mm(d_product_nv, weight_vh, out=d_states[rows])
            if d_weight is not None:
                _add_product(d_weight, d_product_nv.T, states_nh[rows])
            if d_bias is not None:
                d_bias += d_product_nv.sum(0)
        return None, None, None, d_states, _like(d_weight, weight_vh), _like(d_bias, bias_v)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in place where the types allow."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _like(gradient: Tensor | None, tensor: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(tensor.dtype)


class _Column:
    """One output, made whole at its first part.

    Parts that were kept one by one would stand between the planes of the chunks on the heap, which then grows with every chunk.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._whole: Tensor | None = None
        self.lengths: list[int] = []

    def add(self, part: Tensor) -> None:
        if self._whole is None:
            self._whole = part.new_empty(self._size, *part.shape[1:])
        start = sum(self.lengths)
        self._whole[start : start + len(part)] = part
        self.lengths.append(len(part))

    def whole(self) -> Tensor:
        assert self._whole is not None, "there is at least one chunk, if an empty one"
        return self._whole


def _through(head: Head, reader: Reader, states_nh: Tensor, rows: slice, above: Sequence[Tensor]) -> Tensor:
    """The gradient with respect to the product of one chunk."""
    product_nv = head.product(states_nh).requires_grad_()
    with torch.enable_grad():
        outputs = reader.differentiable(head.log_probs(product_nv), rows)
    moving = [(one, gradient) for one, gradient in zip(outputs, above, strict=True) if one.requires_grad]
    if not moving:  # every output is constant here, such as the tail of a term without one
        return torch.zeros_like(product_nv)
    (gradient_nv,) = torch.autograd.grad([one for one, _ in moving], product_nv, [gradient for _, gradient in moving])
    return gradient_nv.to(states_nh.dtype)
