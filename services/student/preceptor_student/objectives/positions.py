"""A stretch of the response."""

import numpy as np
from numpy.typing import NDArray

from preceptor.recipes.ops.positions import PositionsParams
from preceptor_student.objectives.signals import Mask


def select(targets_r: NDArray[np.int64], params: PositionsParams) -> Mask:
    row_r = np.arange(len(targets_r)) - params.skip
    return (row_r >= 0) & (row_r < (len(targets_r) if params.first is None else params.first))
