"""The teacher's final hidden states."""

import numpy as np

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.signals import ItemScores, Signal


def read(scores: ItemScores, _params: NoParams) -> Signal:
    """A row is valid when its state is whole."""
    if scores.hidden_rh is None:
        return Signal(np.zeros_like(scores.ok_r))
    whole_r = np.asarray(np.isfinite(scores.hidden_rh).all(axis=1))
    return Signal(scores.ok_r & whole_r, hidden_rh=scores.hidden_rh, head_sha256=scores.head_sha256)
