"""Hypothesis strategies for log-probabilities as the codec meets them, and the awkward ones first."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Lists = list[list[float]]

AWKWARD = [0.0, -0.0, -24.0, -24.000002, -65504.0, -65505.0, -65519.9, -65520.0, -3.4e38, -1e-45, -6e-8, 1e-7, -1e-30]
plain = st.floats(-40, 0, width=32)
wild = st.one_of(
    st.sampled_from([float(np.float32(x)) for x in AWKWARD]), st.floats(max_value=65504, allow_infinity=False, width=32)
)
absent = st.sampled_from([float("nan"), float("-inf")])
entry = st.one_of(plain, plain, wild, absent)


def fixed_lists(max_rows: int = 6, max_width: int = 6) -> st.SearchStrategy[Lists]:
    """At least one row of at least one entry, all of one width."""
    return st.integers(1, max_width).flatmap(
        lambda width: st.lists(st.lists(entry, min_size=width, max_size=width), min_size=1, max_size=max_rows)
    )


def ragged_lists(max_rows: int = 6, max_width: int = 6) -> st.SearchStrategy[Lists]:
    return st.lists(st.lists(entry, max_size=max_width), max_size=max_rows)


def flat(rows: Lists) -> F32:
    return np.array([x for row in rows for x in row], np.float32)


def lengths(rows: Lists) -> list[int]:
    return [len(row) for row in rows]


def offsets(rows: Lists) -> NDArray[np.uint32]:
    return np.cumsum([0, *lengths(rows)]).astype(np.uint32)
