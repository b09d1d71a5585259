"""Grade f16: half precision, rounded to nearest even.

|error| <= max(2^-11 |x|, 2^-25). A finite x below -65,504 is sent as -65,504 and counted as clipped; a finite x above
65,504 is no log-probability and is refused. The bound of a payload is half the f16 spacing at its largest stored magnitude.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.layout import Layout
from preceptor.codec.planes import F32, one_nan, row_error
from preceptor.errors import InvalidArgument

F16_MAX = 65504.0
_MAGNITUDE, _INFINITY, _FRACTION_BITS = 0x7FFF, 0x7C00, 10


def to_half(values: F32, layout: Layout, field: str) -> tuple[NDArray[np.float16], int]:
    """The values as f16, and how many were clipped."""
    if values.size == 0 or (values.min() >= -F16_MAX and values.max() <= F16_MAX):  # NaN and -inf fail the comparison
        return values.astype(np.float16), 0
    check_f16_top(values.ravel(), layout, field)
    low = (values < -F16_MAX) & (values != -np.inf)
    return one_nan(np.where(low, np.float32(-F16_MAX), values).astype(np.float16)), int(np.count_nonzero(low))


def check_f16_top(values: F32, layout: Layout, field: str) -> None:
    """Refuses finite entries that f16 cannot hold on the positive side."""
    high = np.flatnonzero(values > F16_MAX)
    if high.size:
        raise row_error(InvalidArgument, field, layout.row_of(int(high[0])), float(values[high[0]]), f"<= {F16_MAX:g}")


def half_error_bound(stored: NDArray[np.float16]) -> float:
    """The largest error rounding to f16 can have left in these values; 0 where none is finite."""
    magnitudes = stored.view(np.uint16) & _MAGNITUDE
    finite = magnitudes < _INFINITY
    if not finite.any():
        return 0.0
    exponent = max(int(np.where(finite, magnitudes, 0).max()) >> _FRACTION_BITS, 1)  # subnormals share the lowest spacing
    return float(2.0 ** (exponent - 26))


def round_up_to_half(values: NDArray[np.float64]) -> NDArray[np.float16]:
    """The least f16 at or above each finite value <= 65,504; a zero has no sign."""
    nearest = values.astype(np.float16)
    short = nearest.astype(np.float64) < values  # values below -65,504 may have become -inf: their neighbour is -65,504
    return np.where(short, np.nextafter(nearest, np.float16(np.inf)), nearest) + np.float16(0)
