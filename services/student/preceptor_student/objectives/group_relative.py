"""A sequence's reward minus the mean of its group, on request over the group's spread; ungraded sequences are not counted."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.group_relative import GroupRelativeParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal) -> Mask:
    """Every row of a graded sequence."""
    return np.ones_like(signal.valid_r)


def over_batch(rewards: Sequence[float], groups: Sequence[str], params: GroupRelativeParams) -> list[float]:
    """The advantage of each graded sequence of the whole step, whatever its micro-batches."""
    members: dict[str, list[float]] = defaultdict(list)
    for group, reward in zip(groups, rewards, strict=True):
        members[group].append(reward)
    means = {group: fmean(values) for group, values in members.items()}
    centred = [reward - means[group] for group, reward in zip(groups, rewards, strict=True)]
    if params.std_offset is None:
        return centred
    offset = plain(params.std_offset)
    spread = {group: fmean((value - means[group]) ** 2 for value in values) ** 0.5 for group, values in members.items()}
    return [value / (spread[group] + offset) for value, group in zip(centred, groups, strict=True)]


def per_row(rows: TermRows, _params: GroupRelativeParams) -> Tensor:
    """The sequence's advantage at each of its rows."""
    assert rows.sequence_n is not None, "over_batch gives each sequence its number"
    return rows.sequence_n
