"""log teacher - log student of the drawn token, under the weights that are trained or under those that drew it."""

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.k1 import K1Params
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.kinds import Facts
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask


def usable(facts: Facts, params: K1Params) -> Mask:
    """Rows whose drawn token is possible under the teacher: an infinite advantage is skipped and counted, never clamped."""
    signal = facts.signal
    assert signal.sampled_r is not None, "the linter gives k1 the sampled signal"
    possible_r = ~np.isneginf(signal.sampled_r)
    if params.student == "current":
        return possible_r
    return possible_r & np.isfinite(facts.drawn.column("policy", len(signal.valid_r)))


def per_row(rows: TermRows, params: K1Params) -> Tensor:
    """Nats of each row, detached."""
    assert rows.teacher_sampled_n is not None, "the linter gives k1 the sampled signal"
    student_n = rows.student_sampled_n().detach() if params.student == "current" else rows.drawn_policy_n
    assert student_n is not None, "rows without the column are skipped before"
    return plain(params.scale) * (rows.teacher_sampled_n - student_n)
