"""Hidden states: [rows, width] in the type the engine computed them in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.codec.enums import HiddenDtype
from preceptor.codec.layout import layout_from, layout_of
from preceptor.codec.planes import Plane, check_array, frozen, read_plane, write_plane
from preceptor.codec.scores import check_missing
from preceptor.errors import Corrupt, InvalidArgument

PLANE_DTYPES: dict[HiddenDtype, type[np.generic]] = {
    HiddenDtype.F32: np.float32,
    HiddenDtype.F16: np.float16,
    HiddenDtype.BF16: np.uint16,  # numpy has no bf16: its 16 bits, e.g. tensor.view(torch.uint16).numpy()
}


def encode_hidden(
    states: NDArray[Any], dtype: HiddenDtype, *, validity: NDArray[np.uint8] | None = None, field: str = "hidden"
) -> bytes:
    """[rows, width] states as they are: a float32 or float16 array, or the raw 16 bits of bf16 as uint16."""
    check_array(states, PLANE_DTYPES[dtype], 2, field)
    layout = layout_of(states, None, field)
    if validity is not None:
        with np.errstate(all="ignore"):
            check_missing(_as_float(states, dtype), layout, validity, field, InvalidArgument)
    return write_plane(states, PLANE_DTYPES[dtype])


def decode_hidden(
    data: Plane,
    dtype: int,
    *,
    rows: int,
    width: int,
    validity: NDArray[np.uint8] | None = None,
    field: str = "hidden",
) -> NDArray[np.float32] | NDArray[np.float16]:
    """[rows, width] states: views for f32 and f16; bf16 as the f32 it is the upper half of."""
    if dtype not in PLANE_DTYPES:
        known = " | ".join(f"{d.value} ({d})" for d in PLANE_DTYPES)
        raise Corrupt(f"{field} has the unknown dtype {dtype}", field=f"{field}.dtype", value=dtype, limit=known)
    kind = HiddenDtype(dtype)
    layout = layout_from(rows, width, None, field)
    states = _as_float(read_plane(data, PLANE_DTYPES[kind], layout.entries, field).reshape(layout.shape), kind)
    if validity is not None:
        with np.errstate(all="ignore"):
            check_missing(states, layout, validity, field, Corrupt)
    return frozen(states)


def _as_float(plane: NDArray[Any], dtype: HiddenDtype) -> NDArray[Any]:
    return np.left_shift(plane, 16, dtype=np.uint32).view(np.float32) if dtype is HiddenDtype.BF16 else plane
