"""Both KL divergences of a row, for objectives that mix them."""

from __future__ import annotations

from torch import Tensor

from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor_student.objectives import forward_kl, reverse_kl
from preceptor_student.objectives.rows import TermRows

PLAIN = DivergenceParams()


def forward_and_reverse(rows: TermRows) -> tuple[Tensor, Tensor]:
    """(KL(teacher || student), KL(student || teacher)) of each row, uncut."""
    return forward_kl.loss(rows, PLAIN), reverse_kl.loss(rows, reverse_kl.EXACT)
