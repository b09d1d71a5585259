"""A soft gate: sigmoid((quantity - centre) / width)."""

from typing import Literal

from preceptor.recipes.ops.quantities import OfQuantity, reads
from preceptor.recipes.ops.spec import Kind, OpSpec
from preceptor.recipes.schedules import Number, Positive


class SigmoidParams(OfQuantity):
    """Where the gate opens, how softly, and for what."""

    centre: Number
    """Here the weight is one half."""

    width: Positive
    """How far from the centre it takes to open or close."""

    towards: Literal["large", "small"] = "large"
    """large: the weight grows with the quantity; small: it falls."""


SPEC = OpSpec(
    "sigmoid", Kind.TOKEN_WEIGHT, "sigmoid((quantity - centre) / width) of each row", params=SigmoidParams, reads_of=reads
)
