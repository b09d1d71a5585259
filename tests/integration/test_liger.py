"""Liger's fused linear JSD and ours are one divergence with one gradient, from the same hidden states and heads."""

from __future__ import annotations

import pytest

from benchmarks.loss import liger_parity
from benchmarks.loss.environments import is_ready

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_ready(liger_parity.HOME), reason=f"{liger_parity.HOME} is made by `python -m benchmarks.bench_loss --parts liger`"
    ),
]


def test_forward_and_reverse_kl_and_jsd_agree_with_both_of_ligers_ways() -> None:
    found = liger_parity.worst_difference()
    assert len(found) == 8  # two ways, four betas
    assert max(found.values()) < 1e-5, found
