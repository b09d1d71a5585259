"""Deterministic forward passes: one sequence, cells of 32 tokens from index 0, each on the keys and values of the cells before.

A cell's states depend on the tokens up to its end and on nothing else: every pass over it has the same shapes and the same
inputs, whichever chunks the tokens arrived in and whoever computed the cells before it. The last, partial cell is filled up with
zeros that no real token sees; its keys and values are never kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from preceptor.types import Ids
from preceptor_teacher.engines.hf.forward import KeyValues, Piece, forward
from preceptor_teacher.engines.hf.load import LoadedModel
from preceptor_teacher.grid import CELL_TOKENS


@dataclass(frozen=True, slots=True)
class Cell:
    """States [32, h] of tokens start .. start + 31, and keys and values of all complete cells so far."""

    start: int
    states: Tensor
    complete: KeyValues | None


def forward_cells(model: LoadedModel, ids: Ids, past: KeyValues | None) -> Iterator[Cell]:
    """The cells after `past`, which holds complete cells only, to the end of `ids`."""
    start = 0 if past is None else past.tokens
    for at in range(start, len(ids), CELL_TOKENS):
        cell = ids[at : at + CELL_TOKENS]
        is_complete = len(cell) == CELL_TOKENS
        padded = np.pad(cell, (0, CELL_TOKENS - len(cell)))
        done = forward(model.base, [Piece(padded, past)], model.device, keep=[is_complete and model.keeps_states])
        past = done.key_values[0] if is_complete else past
        yield Cell(at, done.states[0], past)
