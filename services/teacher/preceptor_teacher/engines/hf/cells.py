"""Deterministic forward passes: one sequence, cells of 32 tokens from index 0, each on the keys and values of the cells before.

A cell's states depend on the tokens up to its end and on nothing else: every pass over it has the same shapes and the same
inputs, whichever chunks the tokens arrived in and whoever computed the cells before it. The last, partial cell is filled up with
zeros that no real token sees; its keys and values are never kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from preceptor.types import Ids
from preceptor_teacher.engines.hf.forward import Forwarded, KeyValues, Piece, forward
from preceptor_teacher.engines.hf.load import LoadedModel
from preceptor_teacher.grid import CELL_TOKENS, complete_tokens


@dataclass(frozen=True, slots=True)
class Cell:
    """States [32, h] of tokens start .. start + 31."""

    start: int
    states: Tensor


@dataclass(frozen=True, slots=True)
class Cells:
    """Those that were asked for, in order, and what is known of all complete ones; the same tokens give the same bits."""

    cells: list[Cell]
    complete: KeyValues | None


def read_cells(model: LoadedModel, ids: Ids, past: KeyValues | None, first_state: int) -> Cells:
    """The cells from that of token `first_state` to the end of `ids`; the complete ones in `past` are not computed again."""
    first, cells, start = complete_tokens(first_state), list[Cell](), 0
    if past is not None and past.states is not None:
        start = past.tokens
        cells = [Cell(at, past.states[at : at + CELL_TOKENS]) for at in range(first, start, CELL_TOKENS)]
    for at in range(start, len(ids), CELL_TOKENS):
        cell = ids[at : at + CELL_TOKENS]
        padded = np.pad(cell, (0, CELL_TOKENS - len(cell)))
        is_complete = len(cell) == CELL_TOKENS
        done = forward(model.base, [Piece(padded, past)], model.device, keep=[is_complete])
        past = _longer(past, done) if is_complete else past
        if at >= first:
            cells.append(Cell(at, done.states[0]))
    return Cells(cells, past)


def _longer(past: KeyValues | None, done: Forwarded) -> KeyValues | None:
    """What is known after one more complete cell."""
    [states], [known] = done.states, done.key_values
    if known is None:
        return None
    before = [] if past is None or past.states is None else [past.states]
    return replace(known, states=torch.cat([*before, states]))
