"""Rows between marker tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preceptor.recipes.ops.span import SpanParams
from preceptor_student.objectives.signals import Mask


def select(targets_r: NDArray[np.int64], params: SpanParams) -> Mask:
    """Markers themselves are outside."""
    start, end = 0, len(targets_r)
    if params.after is not None:
        found = _find(targets_r, params.after, 0)
        start = end if found is None else found + len(params.after)
    if params.until is not None:
        found = _find(targets_r, params.until, start)
        end = end if found is None else found
    row_r = np.arange(len(targets_r))
    return (row_r >= start) & (row_r < end)


def _find(targets_r: NDArray[np.int64], marker: tuple[int, ...], start: int) -> int | None:
    """Where the marker first stands, from `start` on."""
    places = range(start, len(targets_r))
    return next((at for at in places if tuple(targets_r[at : at + len(marker)]) == marker), None)
