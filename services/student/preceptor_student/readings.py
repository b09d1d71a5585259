"""What a teacher's columns are to an op: its signal of one item."""

from __future__ import annotations

import numpy as np

from preceptor_student.batch import Item
from preceptor_student.binding import BoundOp
from preceptor_student.objectives import SIGNALS
from preceptor_student.objectives.signals import ItemScores, Signal


def signal_of(teacher: str | None, signal: BoundOp | None, item: Item) -> Signal:
    """An op that reads nothing has every row; a teacher that said nothing of the item has none."""
    if teacher is None or signal is None:
        return Signal(np.ones(item.row_count, bool))
    scores = item.scores.get(teacher) or ItemScores(np.zeros(item.row_count, bool), item.targets_r)
    return SIGNALS[signal.name](scores, signal.params)
