"""Minus advantage * log student of the drawn token.

The advantage is detached: back-propagating log student - log teacher of drawn tokens directly has zero expected gradient in
its teacher part. Whether a row can be used is the advantage's matter.
"""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, _head_rows: int) -> Mask:
    """Every valid row."""
    return np.ones_like(signal.valid_r)


def loss(rows: TermRows, _params: NoParams) -> Tensor:
    """The surrogate of each row; its gradient, not its value, is what counts."""
    assert rows.advantage_n is not None, "the linter refuses a policy gradient without an advantage"
    return -rows.advantage_n.detach() * rows.student_sampled_n()
