"""Rollouts of a step as wholes: which of them a term reads, how much each weighs, and which are held against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument
from preceptor_student.batch import Item
from preceptor_student.binding import BoundTerm, BoundUse
from preceptor_student.objectives import ADVANTAGES, CONDITIONS, PAIRINGS, SAMPLE_WEIGHTS
from preceptor_student.objectives.kinds import Advantage
from preceptor_student.objectives.samples import Sample
from preceptor_student.readings import signal_of


def taken(term: BoundTerm, items: Sequence[Item], step: int) -> list[bool | None]:
    """Whether the term reads each item: those that meet every condition. None: that cannot be known."""
    answers = [CONDITIONS[use.op.name](samples_of(use, items, step), use.op.params) for use in term.when]
    return [_all(column) for column in zip(*answers, strict=True)] if answers else [True] * len(items)


def weights(term: BoundTerm, items: Sequence[Item], read: Sequence[bool | None], step: int) -> list[float]:
    """Of each item: its own weight times its sample weights. NaN where that cannot be known."""
    columns = [SAMPLE_WEIGHTS[use.op.name](samples_of(use, items, step, read), use.op.params) for use in term.sample_weights]
    return (
        [math.prod(column, start=item.weight) for item, column in zip(items, zip(*columns, strict=True), strict=True)]
        if (columns)
        else [item.weight for item in items]
    )


def row_values(use: BoundUse, items: Sequence[Item]) -> list[NDArray[np.float64]]:
    """Of each row of each item: its number, where the op is an advantage that compares items or their steps; NaN where it has
    none.

    Groups are whole: a condition of the term does not change what a rollout is compared with.
    """
    advantage = ADVANTAGES.get(use.op.name)
    if advantage is not None and advantage.over_steps is not None:
        signals = [signal_of(use.teacher, use.signal, item) for item in items]
        return advantage.over_steps(signals, [group_of(item) for item in items], use.op.params)
    values = [nan] * len(items) if advantage is None else _sequence_values(advantage, use, items)
    return [np.full(item.row_count, value) for item, value in zip(items, values, strict=True)]


def _sequence_values(advantage: Advantage, use: BoundUse, items: Sequence[Item]) -> list[float]:
    if advantage.over_batch is None:
        return [nan] * len(items)
    rewards = [signal_of(use.teacher, use.signal, item).reward for item in items]
    graded = [(item, reward) for item, reward in zip(items, rewards, strict=True) if reward is not None]
    numbers = advantage.over_batch([reward for _, reward in graded], [group_of(item) for item, _ in graded], use.op.params)
    values = iter(numbers)
    return [nan if reward is None else next(values) for reward in rewards]


def pairs_of(term: BoundTerm, items: Sequence[Item], step: int) -> list[tuple[int, int]]:
    """(chosen, rejected) as places among the items; none where the term compares nothing."""
    use = term.pairs
    return [] if use is None else PAIRINGS[use.op.name](samples_of(use, items, step), use.op.params)


def samples_of(use: BoundUse, items: Sequence[Item], step: int, read: Sequence[bool | None] = ()) -> list[Sample]:
    """What an op goes by, as it reads it."""
    return [_sample(use, item, step, taken=not read or bool(read[place])) for place, item in enumerate(items)]


def group_of(item: Item) -> str:
    """The item's group; it must have one."""
    if not item.group:
        raise InvalidArgument("an op compares groups, and this item names none", field="items.group", value="nothing")
    return item.group


def _sample(use: BoundUse, item: Item, step: int, *, taken: bool) -> Sample:
    signal = signal_of(use.teacher, use.signal, item)
    newest = item.drawn.newest_step
    return Sample(
        source=item.source,
        group=group_of(item),
        reward=signal.reward,
        truncated=item.truncated,
        age_steps=nan if newest is None else step - 1 - newest,
        mean_student=_mean(item.drawn.policy_r),
        mean_teacher=_mean(None if signal.sampled_r is None else np.where(signal.valid_r, signal.sampled_r, np.nan)),
        taken=taken,
    )


def _mean(values_r: NDArray[np.floating] | None) -> float:
    """NaN where some number is missing."""
    return nan if values_r is None else float(np.mean(values_r, dtype=np.float64))


def _all(answers: Sequence[bool | None]) -> bool | None:
    """A condition that is not met decides, whatever is not known of the others."""
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True
