"""exp(slope * quantity): smoothly more or less weight on rows where a quantity is large."""

from preceptor.recipes.ops.quantities import OfQuantity, reads
from preceptor.recipes.ops.spec import Kind, OpSpec
from preceptor.recipes.schedules import Number, always


class ExponentialParams(OfQuantity):
    """Which quantity, and how steeply."""

    slope: Number
    """Nats of weight for one unit of the quantity; negative: less weight where it is large."""


def idle(params: ExponentialParams) -> str:
    return "a slope of zero weighs every row alike" if always(params.slope, 0.0) else ""


SPEC = OpSpec(
    "exponential",
    Kind.TOKEN_WEIGHT,
    "exp(slope * quantity) of each row",
    params=ExponentialParams,
    reads_of=reads,
    idle=idle,
)
