"""Rows of deterministic mode: whole cells go through the head, each in a product of fixed shape.

Without a grid, `preceptor_teacher.engines.answer` does it, for every engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preceptor.errors import Internal
from preceptor.types import IdLogprobs, RaggedIds, Rows
from preceptor_serving.engines.plan import NO_TARGET
from preceptor_teacher.engines.answer import Headed, Planned, answer, not_finite, rows_of
from preceptor_teacher.engines.hf.cells import Cell
from preceptor_teacher.grid import CELL_TOKENS
from preceptor_teacher.readout import ReadoutRows, RowSpec, readout

__all__ = ["Planned", "answer", "answer_on_grid", "rows_of"]


def answer_on_grid(model: Headed, item: Planned, cells: Sequence[Cell]) -> Rows | Internal:
    """The rows of one item from whole cells: each cell goes through the head in one product of fixed shape, wanted or not."""
    states = torch.cat([cell.states for cell in cells])
    at = item.plan.prefix_tokens - 1 - cells[0].start
    wanted = states[torch.from_numpy(at).to(states.device)]
    if not bool(torch.isfinite(wanted).all()):
        return not_finite()
    got = readout(states, model.head, _spread(item.spec(), at, len(states)), chunk_rows=CELL_TOKENS)
    return rows_of(model, item, _take(got, at), 0, 0, wanted)


def _spread(spec: RowSpec, at: NDArray[np.int64], count: int) -> RowSpec:
    """The same rows at places `at` among `count` rows, of which the others want nothing."""

    def placed(values: NDArray[Any], rest: int) -> NDArray[Any]:
        out = np.full(count, rest, values.dtype)
        out[at] = values
        return out

    lists = spec.candidates
    if lists is not None:
        counts = placed(np.diff(lists.offsets.astype(np.int64)), 0)
        lists = RaggedIds(np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32), lists.ids)
    seeds = None if spec.seeds is None else placed(spec.seeds, 0)
    rows = None if spec.rows is None else placed(spec.rows, 0)
    return RowSpec(spec.signals, placed(spec.targets, NO_TARGET), lists, seeds, rows)


def _take(got: ReadoutRows, at: NDArray[np.int64]) -> ReadoutRows:
    """The rows at these places; candidates are flat already."""

    def column(values: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        return None if values is None else values[at]

    def lists(values: IdLogprobs | None) -> IdLogprobs | None:
        return None if values is None else IdLogprobs(values.ids[at], values.logprobs[at])

    return ReadoutRows(
        column(got.sampled), lists(got.topk), got.candidates, column(got.entropy), column(got.tail), lists(got.samples)
    )
