"""1 + gain * (quantity over its largest value in the response): a bonus that does not depend on the quantity's scale."""

from typing import Literal

from preceptor.recipes.ops.quantities import OfQuantity, reads
from preceptor.recipes.ops.spec import Kind, OpSpec
from preceptor.recipes.schedules import Positive


class RelativeParams(OfQuantity):
    """Which quantity, which end gets the bonus, and how large it is."""

    gain: Positive = 1.0
    """The largest bonus."""

    towards: Literal["large", "small"] = "large"
    """large: 1 + gain * q / max; small: 1 + gain * (1 - q / max). A response whose largest value is not positive gets 1."""


SPEC = OpSpec(
    "relative",
    Kind.TOKEN_WEIGHT,
    "1 + gain * a quantity over its largest value in the response",
    params=RelativeParams,
    reads_of=reads,
)
