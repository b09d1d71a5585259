"""Importance ratios: the student's probability of a token now, over that under which it was drawn."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from preceptor.recipes.ops.ratios import AgainstDrawn
from preceptor_student.objectives.kinds import Facts
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask


def logged(facts: Facts, params: AgainstDrawn) -> Mask:
    """Rows whose drawing log-probability the rollout logged; the others are skipped, never taken to be on-policy."""
    return np.isfinite(facts.drawn.column(params.against, len(facts.signal.valid_r)))


def log_ratio_n(rows: TermRows, params: AgainstDrawn) -> Tensor:
    """log student - log drawing probability of each row, with gradient."""
    drawn_n = rows.drawn_behaviour_n if params.against == "behaviour" else rows.drawn_policy_n
    assert drawn_n is not None, "rows without the column are skipped before"
    return rows.student_sampled_n() - drawn_n
