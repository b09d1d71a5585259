"""What the loss benchmark compares is the same work, and the chunked way holds no plane of rows x vocabulary."""

from __future__ import annotations

import pytest
import torch

from benchmarks.loss.cases import FORMS, chunked, make_case, plain
from benchmarks.loss.memory import in_fresh_process


@pytest.mark.parametrize("form", FORMS)
def test_both_ways_give_the_same_loss_and_gradients(form: str) -> None:
    ours, theirs = make_case(form, 9, 700, 16), make_case(form, 9, 700, 16)
    assert chunked(ours) == pytest.approx(plain(theirs), rel=1e-5)
    assert ours.own_bytes > 2 * 4 * 16 * (9 + 700)
    for mine, other in ((ours.states_nh, theirs.states_nh), (ours.weight_vh, theirs.weight_vh)):
        assert mine.grad is not None
        assert mine.grad.abs().max() > 1e-4
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_only_the_plain_way_holds_a_plane_of_logits() -> None:
    rows, vocabulary = 1536, 100_000
    plane = rows * vocabulary * 4
    assert in_fresh_process("chunked", "lists", rows, vocabulary, 8)["peak_bytes"] < plane / 2
    assert in_fresh_process("plain", "lists", rows, vocabulary, 8)["peak_bytes"] > 2 * plane
