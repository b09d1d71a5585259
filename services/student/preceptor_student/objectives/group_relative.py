"""A sequence's reward minus a baseline of its group, on request over the group's spread; ungraded sequences are not counted."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from preceptor.recipes.ops.group_relative import GroupRelativeParams
from preceptor.recipes.schedules import plain


def over_batch(rewards: Sequence[float], groups: Sequence[str], params: GroupRelativeParams) -> list[float]:
    """The advantage of each graded sequence of the whole step, whatever its micro-batches. Alone in its group it has none."""
    members: dict[str, list[float]] = defaultdict(list)
    graded = list(zip(groups, rewards, strict=True))
    for group, reward in graded:
        members[group].append(reward)
    factors = {group: _factor(values, params) for group, values in members.items()}
    means = {group: fmean(values) for group, values in members.items()}
    return [factors[group] * (reward - means[group]) for group, reward in graded]


def _factor(values: Sequence[float], params: GroupRelativeParams) -> float:
    """What the distance from the group's mean is multiplied by. The mean of the others is n / (n - 1) times as far away."""
    count, factor = len(values), plain(params.scale)
    if params.baseline == "others":
        factor *= count / max(count - 1, 1)
    if params.std_offset is None:
        return factor
    mean = fmean(values)
    return factor / (fmean((value - mean) ** 2 for value in values) ** 0.5 + plain(params.std_offset))
