"""h + q - h q, the student's entropy h and a quantity q, each over its largest value in the response.

Where the largest value of one is not positive, that one counts as zero, and so does a value below zero.
"""

import torch
from torch import Tensor

from preceptor.recipes.ops.entropy_or import EntropyOrParams
from preceptor_student.objectives.quantities import quantity_n
from preceptor_student.objectives.responses import share_of_largest
from preceptor_student.objectives.rows import TermRows


def apply(rows: TermRows, weight_n: Tensor, params: EntropyOrParams) -> Tensor:
    if not len(weight_n):
        return weight_n
    entropy_n, other_n = (_score(rows, name) for name in ("student_entropy", params.of))
    either_n = 1 - (1 - entropy_n) * (1 - other_n)  # exactly 1 where one of them is: a rank is no matter of rounding
    return weight_n * either_n


def _score(rows: TermRows, name: str) -> Tensor:
    share_n, positive_n = share_of_largest(rows, quantity_n(name, rows))
    return share_n.clamp_min(0).where(positive_n, torch.zeros(()))
