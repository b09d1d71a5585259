"""log teacher - log student of the drawn token, the student's own recomputed under the weights that are being trained."""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal) -> Mask:
    """Rows whose drawn token is possible under the teacher: an infinite advantage is skipped and counted, never clamped."""
    assert signal.sampled_r is not None, "the linter gives k1 the sampled signal"
    return ~np.isneginf(signal.sampled_r)


def per_row(rows: TermRows, _params: NoParams) -> Tensor:
    """Nats of each row, detached."""
    assert rows.teacher_sampled_n is not None, "the linter gives k1 the sampled signal"
    return rows.teacher_sampled_n - rows.student_sampled_n().detach()
