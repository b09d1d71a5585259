"""Grade u8: one byte an entry, an affine map for each row.

With t the highest and m the lowest finite entry of a row:

    base  = the least f16 >= t                          floor = max(m, base - 24)
    step  = the least f16 >= (base - floor) / 252       code  = (base - x) / step, to nearest even, for x >= floor

Code 253 is a finite x below the floor (it decodes to base - 252 step, is counted as clipped and is outside the bound), 254 is
-inf, 255 is missing; x decodes to base - code * step, rounded once to f32. Encoding divides in double precision against the
*stored* base and step. Because both are rounded up, 252 steps always reach the floor and no code overflows. A row without finite
entries has base = step = 0. All of this holds without exceptions:

* one finite entry, or all equal: floor = t, so step = 0 exactly when t is an f16 (error 0), else a 252nd of base - t;
* t < -65,504: base = -65,504, and what lies more than 24 below it is clipped. From |t| > 16,384 on, f16 is coarser than 16,
  so that a whole row may lie below base - 24: clipped entries are always counted, never dropped;
* t > 65,504 is no log-probability and is refused.

The bound of a payload is the largest over its rows of step / 2 plus half the f32 spacing at the row's largest magnitude (the
rounding of decoded values), rounded up to an f32: at most 0.05 nats, since no step exceeds 0.09528.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.half import check_f16_top, round_up_to_half
from preceptor.codec.layout import FixedRows, Layout
from preceptor.codec.planes import F32, row_error
from preceptor.errors import Corrupt

F64 = NDArray[np.float64]
F16 = NDArray[np.float16]

RANGE_NATS = 24.0
LAST_CODE, CLIPPED, ZERO, MISSING = 252, 253, 254, 255
MAX_STEP = float(round_up_to_half(np.array([RANGE_NATS / LAST_CODE]))[0])


@dataclass(frozen=True, slots=True)
class AffineRows:
    """Codes in the shape of the values; one base and step a row."""

    codes: NDArray[np.uint8]
    bases: F16
    steps: F16
    clipped: int
    error_bound_nats: float


def to_affine(values: F32, layout: Layout, field: str) -> AffineRows:
    """The values as codes with their bases and steps."""
    top, low, plain = _finite_span(values, layout)
    check_f16_top(top, FixedRows(layout.rows, 1), field)
    filled = top > -np.inf
    bases = round_up_to_half(np.where(filled, top, 0).astype(np.float64))
    base64 = bases.astype(np.float64)
    floors = np.where(filled, np.maximum(low, base64 - RANGE_NATS), base64)
    steps = round_up_to_half((base64 - floors) / LAST_CODE)
    clips = bool((low < floors).any())
    codes = _codes(values, layout, base64, steps.astype(np.float64))
    if clips:
        codes[values < layout.spread(floors)] = CLIPPED
    if not plain:
        codes[values == -np.inf] = ZERO
        codes[np.isnan(values)] = MISSING
    clipped = int(np.count_nonzero(codes == CLIPPED)) if clips else 0
    return AffineRows(codes, bases, steps, clipped, affine_error_bound(bases, steps))


def from_affine(codes: NDArray[np.uint8], layout: Layout, bases: F16, steps: F16) -> F32:
    """What the codes stand for. A code times a step is exact in f32, so that there is one rounding."""
    values = np.multiply(np.minimum(codes, LAST_CODE), layout.spread(steps.astype(np.float32)), dtype=np.float32)
    np.subtract(layout.spread(bases.astype(np.float32)), values, out=values)
    if codes.size and codes.max() >= ZERO:
        values[codes == ZERO] = -np.inf
        values[codes == MISSING] = np.nan
    return values


def check_affine(bases: F16, steps: F16, bases_field: str, steps_field: str) -> None:
    """Refuses bases and steps that no encoder writes."""
    for row in np.flatnonzero(~np.isfinite(bases))[:1].tolist():
        raise row_error(Corrupt, bases_field, row, float(bases[row]), "finite")
    for row in np.flatnonzero(~((steps >= 0) & (steps <= MAX_STEP)))[:1].tolist():
        raise row_error(Corrupt, steps_field, row, f"{steps[row]:.8f}", f"0..{MAX_STEP:.8f}")


def affine_error_bound(bases: F16, steps: F16) -> float:
    """The largest error an entry above its row's floor can have."""
    used = steps > 0
    if not used.any():
        return 0.0
    base, step = bases[used].astype(np.float64), steps[used].astype(np.float64)
    largest = np.maximum(np.abs(base), np.abs(base - LAST_CODE * step)).astype(np.float32)
    bound = np.float32((step / 2 + np.spacing(largest) / 2).max())
    return float(np.nextafter(bound, np.float32(np.inf)))


def _finite_span(values: F32, layout: Layout) -> tuple[F32, F32, bool]:
    """The highest and lowest finite entry of each row (-inf and +inf where there is none); and whether all are finite."""
    if values.size == 0:
        return np.full(layout.rows, -np.inf, np.float32), np.full(layout.rows, np.inf, np.float32), True
    if values.min() > -np.inf:  # false for NaN too
        return layout.highest(values), layout.lowest(values), True
    finite = np.isfinite(values)
    top = layout.highest(np.where(finite, values, np.float32(-np.inf)))
    return top, layout.lowest(np.where(finite, values, np.float32(np.inf))), False


def _codes(values: F32, layout: Layout, bases: F64, steps: F64) -> NDArray[np.uint8]:
    distance = np.subtract(layout.spread(bases), values, dtype=np.float64)
    distance /= layout.spread(np.where(steps > 0, steps, 1.0))
    return np.rint(distance, out=distance).astype(np.uint8)  # what is not finite or clipped is overwritten by the caller
