"""KL(student || teacher); where the teacher's entropy exceeds a threshold, forward_weight and reverse_weight of both directions.

The entropy is over support and tail, which is at most that over all tokens. The gate carries no gradient: it is the teacher's.
"""

import torch
from torch import Tensor

from preceptor.recipes.ops.entropy_gated_kl import EntropyGatedKlParams
from preceptor.recipes.schedules import plain
from preceptor_student.objectives.directions import forward_and_reverse
from preceptor_student.objectives.divergence import finite_where_teacher_is
from preceptor_student.objectives.rows import TermRows, bucket_entropy, buckets
from preceptor_student.objectives.signals import Mask, Signal


def usable(signal: Signal, head_rows: int) -> Mask:
    """Rows on which the reverse part is finite."""
    return finite_where_teacher_is(signal, head_rows)


def loss(rows: TermRows, params: EntropyGatedKlParams) -> Tensor:
    """Nats of each row."""
    both = buckets(rows)
    open_n = bucket_entropy(both, both.teacher_nb) > plain(params.threshold_nats)
    forward_n, reverse_n = forward_and_reverse(rows)
    mixed_n = plain(params.forward_weight) * forward_n + plain(params.reverse_weight) * reverse_n
    return torch.where(open_n, mixed_n, reverse_n)
