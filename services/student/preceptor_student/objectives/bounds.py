"""Whether a number lies within the bounds of an op."""

from preceptor.recipes.ops.quantities import Bounds
from preceptor.recipes.schedules import plain


def lies_within(value: float | None, bounds: Bounds) -> bool | None:
    """None where there is no number."""
    if value is None:
        return None
    low = bounds.at_least is None or value >= plain(bounds.at_least)
    return low and (bounds.at_most is None or value <= plain(bounds.at_most))
