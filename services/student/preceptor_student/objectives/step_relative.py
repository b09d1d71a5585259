"""A step's reward minus the mean of all judged steps of its group, on request over their spread.

Each step counts once, however many tokens it has; one that no token belongs to counts nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, pstdev

import numpy as np
from numpy.typing import NDArray

from preceptor.recipes.ops.step_relative import StepRelativeParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.signals import Signal


def over_steps(signals: Sequence[Signal], groups: Sequence[str], params: StepRelativeParams) -> list[NDArray[np.float64]]:
    """Of each row of each response of the step; NaN where its step has no reward."""
    members: dict[str, list[float]] = defaultdict(list)
    for signal, group in zip(signals, groups, strict=True):
        members[group] += _rewards(signal)
    means = {group: fmean(rewards) for group, rewards in members.items() if rewards}
    spreads = {group: _spread(members[group], params) for group in means}
    return [
        (_per_row(signal) - means[group]) / spreads[group] if group in means else _per_row(signal)
        for signal, group in zip(signals, groups, strict=True)
    ]


def _rewards(signal: Signal) -> list[float]:
    """Of the steps that have one, each once."""
    if signal.step_reward_r is None or signal.step_r is None:
        return []
    _, firsts = np.unique(signal.step_r, return_index=True)
    rewards_s = np.asarray(signal.step_reward_r, np.float64)[firsts]
    return rewards_s[np.isfinite(rewards_s)].tolist()


def _spread(rewards: Sequence[float], params: StepRelativeParams) -> float:
    return 1.0 if params.std_offset is None else pstdev(rewards) + plain(params.std_offset)


def _per_row(signal: Signal) -> NDArray[np.float64]:
    if signal.step_reward_r is None:
        return np.full(len(signal.valid_r), np.nan)
    return np.asarray(signal.step_reward_r, np.float64)
