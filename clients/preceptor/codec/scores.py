"""What may stand in a column of log-probabilities, checked the same way before sending and after receiving."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.enums import Validity
from preceptor.codec.layout import Layout
from preceptor.codec.planes import row_error
from preceptor.errors import PreceptorError


def check_scores(
    values: NDArray[np.floating[Any]],
    layout: Layout,
    validity: NDArray[np.uint8] | None,
    field: str,
    error: type[PreceptorError],
) -> None:
    """Refuses +inf anywhere, and anything but NaN in rows that are not OK."""
    if values.size and not values.max() < np.inf:  # also true where a NaN hides the maximum
        infinite = np.flatnonzero(values == np.inf)
        if infinite.size:
            raise row_error(error, field, layout.row_of(int(infinite[0])), "inf", "finite, -inf or NaN")
    if validity is not None:
        check_missing(values, layout, validity, field, error)


def check_missing(
    values: NDArray[np.floating[Any]],
    layout: Layout,
    validity: NDArray[np.uint8],
    field: str,
    error: type[PreceptorError],
) -> None:
    """Refuses anything but NaN in rows that are not OK: nothing is ever filled in, by either side."""
    if len(validity) != layout.rows:
        raise error(
            f"{field} has {layout.rows} rows and validity {len(validity)}",
            field=f"{field}.validity",
            value=len(validity),
            limit=layout.rows,
        )
    invalid = validity != Validity.OK
    if not invalid.any():
        return
    filled = np.flatnonzero(layout.spread(invalid) & ~np.isnan(values))
    if filled.size:
        row = layout.row_of(int(filled[0]))
        raise row_error(error, field, row, float(values.flat[int(filled[0])]), f"NaN, because its validity is {validity[row]}")
